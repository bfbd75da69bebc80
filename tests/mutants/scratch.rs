//! A copy of the sources, where programs are built and tests are run. Kept from one run to the next
//! with its target folder, because dependencies take minutes; made equal to the checkout at each start,
//! so that a run that was killed leaves nothing that counts.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use super::table::Mutant;

/// How long the named tests may take: a mutant may make them run for ever.
const PATIENCE: Duration = Duration::from_secs(180);
/// Most address space of the tests, in KiB: a mutant may make them collect for ever.
const MEMORY: &str = "8388608";
/// What cargo tells those that it starts, which would make dependencies be built again.
const OF_CARGO: &[&str] = &[
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_CRATE_",
    "CARGO_PRIMARY_",
    "CARGO_TARGET_TMPDIR",
    "LD_LIBRARY_",
];

/// How a build went.
pub(crate) enum Build {
    /// The test program.
    Done(PathBuf),
    /// What the compiler said.
    Refused(String),
}

/// How tests went.
pub(crate) enum Ran {
    /// All that many passed.
    Passed(usize),
    /// These failed.
    Failed(Vec<String>),
    /// They ended without a verdict.
    Died(String),
}

/// The copy.
pub(crate) struct Scratch {
    repository: PathBuf,
    source: PathBuf,
    target: PathBuf,
    /// A file that is broken now, and what it was.
    broken: RefCell<Option<(PathBuf, String)>>,
    /// Held as long as this lives.
    _lock: File,
}

impl Scratch {
    /// Makes the copy, or brings it up to date.
    pub(crate) fn open(repository: &Path, folder: &Path) -> Result<Self> {
        let (source, target) = (folder.join("source"), folder.join("target"));
        fs::create_dir_all(&source).with_context(|| source.display().to_string())?;
        let lock = File::create(folder.join("lock"))?;
        if lock.try_lock().is_err() {
            bail!("another run uses {}; wait for it, or set HELIOSTAT_CACHE", folder.display());
        }
        let scratch =
            Self { repository: repository.to_owned(), source, target, broken: RefCell::default(), _lock: lock };
        scratch.sync()?;
        Ok(scratch)
    }

    /// Makes the copy equal to the checkout. What is equal already keeps its time, so that it is not
    /// built again.
    fn sync(&self) -> Result<()> {
        let files = self.files()?;
        for file in &files {
            let (from, to) = (self.repository.join(file), self.source.join(file));
            if fs::read(&from)? != fs::read(&to).unwrap_or_default() || !to.exists() {
                to.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::copy(&from, &to).with_context(|| to.display().to_string())?;
            }
        }
        self.clear(&self.source, &files)
    }

    /// What git knows, or would add.
    fn files(&self) -> Result<BTreeSet<PathBuf>> {
        let listed = std::process::Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
            .current_dir(&self.repository)
            .output()
            .context("git")?;
        ensure!(listed.status.success(), "git cannot list the sources: {}", String::from_utf8_lossy(&listed.stderr));
        let paths = listed.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty());
        let paths = paths.map(|path| PathBuf::from(OsStr::from_bytes(path)));
        Ok(paths.filter(|path| self.repository.join(path).is_file()).collect())
    }

    fn clear(&self, folder: &Path, keep: &BTreeSet<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.clear(&path, keep)?;
            } else if !keep.contains(path.strip_prefix(&self.source)?) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Breaks the copy, until it is healed.
    pub(crate) fn edit(&self, mutant: &Mutant) -> Result<()> {
        let path = self.source.join(&mutant.file);
        let text = fs::read_to_string(&path)?;
        let broken = text.replacen(&mutant.find, &mutant.put, 1);
        self.broken.replace(Some((path.clone(), text)));
        Ok(fs::write(&path, broken)?)
    }

    /// Makes whole what is broken. Not from the checkout, where somebody may work on meanwhile.
    pub(crate) fn heal(&self) -> Result<()> {
        self.broken.take().map_or(Ok(()), |(path, text)| fs::write(&path, text).context(path.display().to_string()))
    }

    /// Builds the tests of a target.
    pub(crate) async fn build(&self, target: &str) -> Result<Build> {
        let mut cargo = self.command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
        cargo.args(["test", "--locked", "--no-run", "--message-format=json-render-diagnostics"]);
        match target {
            "lib" => cargo.arg("--lib"),
            name => cargo.args(["--test", name]),
        };
        let Output { status, stdout, stderr } = cargo.output().await.context("cargo")?;
        if !status.success() {
            return Ok(Build::Refused(String::from_utf8_lossy(&stderr).into_owned()));
        }
        let name = if target == "lib" { "heliostat" } else { target };
        let executable = |line: &str| {
            let told: Value = serde_json::from_str(line).ok()?;
            let ours = told["profile"]["test"] == true && told["target"]["name"] == name;
            ours.then_some(told["executable"].as_str().map(PathBuf::from)).flatten()
        };
        let found = String::from_utf8_lossy(&stdout).lines().filter_map(executable).next_back();
        found.map(Build::Done).with_context(|| format!("cargo does not say where the tests of {target} are"))
    }

    /// Runs tests by their full names.
    pub(crate) async fn run(&self, binary: &Path, tests: &[String]) -> Result<Ran> {
        let mut limited = self.command("bash");
        limited.args(["-c", &format!("ulimit -v {MEMORY} && exec \"$0\" \"$@\"")]).arg(binary);
        limited.arg("--exact").args(tests).env("CARGO_MANIFEST_DIR", &self.source);
        let Ok(ended) = timeout(PATIENCE, limited.output()).await else {
            return Ok(Ran::Died(format!("its tests do not end within {} s", PATIENCE.as_secs())));
        };
        let Output { status, stdout, stderr } = ended?;
        let (said, complaint) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        let verdict = |line: &str, word: &str| Some(line.strip_prefix("test ")?.strip_suffix(word)?.to_owned());
        let failed: Vec<String> = said.lines().filter_map(|line| verdict(line, " ... FAILED")).collect();
        Ok(match status.code() {
            Some(0) => Ran::Passed(said.lines().filter_map(|line| verdict(line, " ... ok")).count()),
            Some(101) if !failed.is_empty() => Ran::Failed(failed),
            _ => Ran::Died(format!("its tests ended with {status} and without a failing one:\n{complaint}")),
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if OF_CARGO.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes())) {
                command.env_remove(name);
            }
        }
        command.current_dir(&self.source).env("CARGO_TARGET_DIR", &self.target);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}
