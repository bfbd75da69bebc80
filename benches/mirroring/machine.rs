//! The machine that is measured on, and what a process has taken of it.

use std::{fs, sync::LazyLock, time::Instant};

use anyhow::Context as _;

use crate::{
    clusters::Importer,
    results::{Machine, Memory},
};

/// Says on standard error what is being done, and since when the benchmark runs.
pub(crate) fn say(doing: &str) {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    eprintln!("bench: {doing} ({} s)", START.elapsed().as_secs());
}

/// Looks at the machine, and asks the importer for its version.
pub(crate) async fn describe(importer: &Importer) -> anyhow::Result<Machine> {
    let version = importer.client.apiserver_version().await.context("cannot ask the importer for its version")?;
    Ok(Machine {
        cores: std::thread::available_parallelism()?.get(),
        memory_mib: kib("/proc/meminfo", "MemTotal:")? >> 10,
        linux: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        kubernetes: version.git_version,
        heliostat: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Runnable processes, on average over 1, 5 and 15 minutes, as `uptime` says.
pub(crate) fn load() -> anyhow::Result<String> {
    Ok(read("/proc/loadavg")?.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

/// Memory of the process with that id.
pub(crate) fn memory(pid: u32) -> anyhow::Result<Memory> {
    let status = format!("/proc/{pid}/status");
    Ok(Memory { resident_kib: kib(&status, "VmRSS:")?, peak_kib: kib(&status, "VmHWM:")? })
}

/// Time on a core that a process (`self`, or an id) has taken since its start, in milliseconds.
pub(crate) fn cpu_ms(process: &str) -> anyhow::Result<u64> {
    /// Linux counts for programs in hundredths of a second, on every architecture.
    const TICK_MS: u64 = 10;
    let path = format!("/proc/{process}/stat");
    let stat = read(&path)?;
    // utime and stime, the 14th and 15th field; counted behind the command's name (proc_pid_stat(5)).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: Vec<u64> =
        fields.map(str::parse).collect::<Result<_, _>>().with_context(|| format!("{path}: {stat}"))?;
    Ok(ticks.iter().sum::<u64>() * TICK_MS)
}

fn kib(path: &str, field: &str) -> anyhow::Result<u64> {
    let text = read(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    value.trim().trim_end_matches(" kB").parse().with_context(|| format!("no {field} in {path}"))
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}
