//! The files that `plan` reads: YAML or JSON documents of our kinds, with errors that name file and
//! line. What is valid beyond the types (the CRDs' rules) is the API server's to say.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::api::{ClusterLink, GROUP, GatewayBinding, MirrorPolicy, VERSION};

/// An object of ours from a file.
#[derive(Debug)]
pub(super) enum Object {
    Link(Box<ClusterLink>),
    Policy(Box<MirrorPolicy>),
    Binding(Box<GatewayBinding>),
}

/// Reads all documents of a file, `-` being stdin. Other kinds are left out and named in `others`.
pub(super) fn read(file: &Path, others: &mut Vec<String>) -> anyhow::Result<Vec<Object>> {
    let (name, text) = text(file)?;
    let mut objects = Vec::new();
    for document in documents(&text) {
        let place = Place { file: &name, document: &document };
        match place.object()? {
            Parsed::Ours(object) => objects.push(object),
            Parsed::Other(what) => others.push(format!("{what} in {name}")),
            Parsed::Empty => {}
        }
    }
    Ok(objects)
}

fn text(file: &Path) -> anyhow::Result<(String, String)> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read stdin as text")?;
        return Ok(("stdin".to_owned(), text));
    }
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}; name a file with -f"))?;
    Ok((name, text))
}

/// A document of a file, and the number of lines before it.
struct Document {
    text: String,
    lines_before: u64,
}

/// The documents of a stream. A line `---` begins a new one; block scalars cannot contain such a
/// line, as they are indented.
fn documents(text: &str) -> Vec<Document> {
    let mut documents = vec![Document { text: String::new(), lines_before: 0 }];
    for (number, line) in (1..).zip(text.lines()) {
        if line == "---" || line.starts_with("--- ") {
            documents.push(Document { text: String::new(), lines_before: number });
        } else if let Some(document) = documents.last_mut() {
            document.text.push_str(line);
            document.text.push('\n');
        }
    }
    documents
}

enum Parsed {
    Ours(Object),
    Other(String),
    Empty,
}

struct Place<'a> {
    file: &'a str,
    document: &'a Document,
}

impl Place<'_> {
    fn object(&self) -> anyhow::Result<Parsed> {
        let text = &self.document.text;
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Parsed::Empty);
        }
        let value: Value = serde_saphyr::from_str_with_options(text, options()).map_err(|e| self.wrong(&e))?;
        let (version, kind) = (value["apiVersion"].as_str(), value["kind"].as_str());
        let (Some(version), Some(kind)) = (version, kind) else {
            bail!("{}: apiVersion and kind are missing; each document must be a Kubernetes object", self.at(1));
        };
        let group = version.split_once('/').map_or("", |(group, _)| group);
        if group != GROUP {
            return Ok(Parsed::Other(format!(
                "{kind} {}",
                value["metadata"]["name"].as_str().unwrap_or("without a name")
            )));
        }
        if version != format!("{GROUP}/{VERSION}") {
            bail!("{}: {version} is not known; write apiVersion: {GROUP}/{VERSION}", self.at(1));
        }
        Ok(Parsed::Ours(match kind {
            "ClusterLink" => Object::Link(Box::new(self.typed(&value)?)),
            "MirrorPolicy" => Object::Policy(Box::new(self.typed(&value)?)),
            "GatewayBinding" => Object::Binding(Box::new(self.typed(&value)?)),
            other => bail!(
                "{}: {GROUP} has no kind {other}; it has ClusterLink, MirrorPolicy and GatewayBinding",
                self.at(1)
            ),
        }))
    }

    /// The object, from the text, so that an error has a line.
    fn typed<K: DeserializeOwned + Serialize>(&self, value: &Value) -> anyhow::Result<K> {
        let object: K =
            serde_saphyr::from_str_with_options(&self.document.text, options()).map_err(|e| self.wrong(&e))?;
        if value["metadata"]["name"].as_str().is_none_or(str::is_empty) {
            bail!("{}: metadata.name is missing", self.at(1));
        }
        let known = serde_json::to_value(&object)?;
        if let Some(field) = unknown(&value["spec"], &known["spec"], "spec") {
            let line = self.line_of(field.rsplit('.').next().unwrap_or_default());
            bail!(
                "{}: {field} is not a field of {}; see: kubectl explain {}.spec",
                self.at(line),
                known["kind"],
                known["kind"].as_str().unwrap_or_default().to_lowercase()
            );
        }
        Ok(object)
    }

    fn wrong(&self, error: &serde_saphyr::Error) -> anyhow::Error {
        let line = error.location().map_or(1, |location| location.line());
        anyhow!("{}: {}", self.at(line), first_line(&error.without_snippet().to_string()))
    }

    /// `file:line`, from a line of the document.
    fn at(&self, line: u64) -> String {
        format!("{}:{}", self.file, self.document.lines_before + line)
    }

    /// The first line on which a key of that name stands.
    fn line_of(&self, key: &str) -> u64 {
        let key = key.split('[').next().unwrap_or_default();
        let is_it = |line: &str| {
            let line = line.trim_start().trim_start_matches("- ").trim_start_matches(['"', '\'']);
            line.strip_prefix(key)
                .is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
        };
        (1..).zip(self.document.text.lines()).find(|(_, line)| is_it(line)).map_or(1, |(number, _)| number)
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! { with_snippet: false, strict_booleans: true }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The path of a field that was written and that the type does not have. Maps of labels and the
/// like come back whole, so that nothing in them is unknown; a null stands for a field left out.
fn unknown(written: &Value, known: &Value, path: &str) -> Option<String> {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => written.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match known.get(key) {
                Some(known) => unknown(value, known, &path),
                None => (!value.is_null()).then_some(path),
            }
        }),
        (Value::Array(written), Value::Array(known)) => {
            let pairs = written.iter().zip(known).enumerate();
            pairs.into_iter().find_map(|(i, (written, known))| unknown(written, known, &format!("{path}[{i}]")))
        }
        _ => None,
    }
}

/// All objects of all files.
pub(super) fn read_all(files: &[PathBuf], others: &mut Vec<String>) -> anyhow::Result<Vec<Object>> {
    let mut objects = Vec::new();
    for file in files {
        objects.extend(read(file, others)?);
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "\
# what we want
---
apiVersion: heliostat.dev/v1alpha1
kind: MirrorPolicy
metadata:
  name: all
  namespace: shop
spec:
  links:
    names: [east]
  services:
    selector:
      matchLabels: {a.example/b: c}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
";

    fn parse(text: &str) -> anyhow::Result<(Vec<Object>, Vec<String>)> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("p.yaml");
        std::fs::write(&file, text)?;
        let mut others = Vec::new();
        let objects = read(&file, &mut others)
            .map_err(|e| anyhow!("{}", e.to_string().replace(&dir.path().display().to_string(), "")))?;
        Ok((objects, others.into_iter().map(|o| o.replace(&dir.path().display().to_string(), "")).collect()))
    }

    #[test]
    fn our_objects_are_read_and_others_are_named() {
        let (objects, others) = parse(POLICY).unwrap();
        assert!(
            matches!(objects.as_slice(), [Object::Policy(p)] if p.spec.links.names == Some(vec!["east".to_owned()]))
        );
        assert_eq!(others, ["Namespace shop in /p.yaml"]);
        assert!(parse("# nothing\n---\n\n").unwrap().0.is_empty());
    }

    #[test]
    fn errors_name_file_and_line() {
        for (from, to, expected) in [
            ("  links:\n    names: [east]", "  links: [east", "/p.yaml:"),
            ("names: [east]", "nmaes: [east]", "/p.yaml:10: spec.links.nmaes is not a field of \"MirrorPolicy\""),
            ("names: [east]", "names: east", "/p.yaml:10: "),
            ("v1alpha1", "v2", "/p.yaml:3: heliostat.dev/v2 is not known"),
            ("kind: MirrorPolicy", "kind: Mirror", "/p.yaml:3: heliostat.dev has no kind Mirror"),
            ("  name: all\n", "", "/p.yaml:3: metadata.name is missing"),
            ("apiVersion: v1\n", "", "/p.yaml:15: apiVersion and kind are missing"),
        ] {
            let text = POLICY.replacen(from, to, 1);
            assert_ne!(text, POLICY);
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{to}: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/does/not/exist"), &mut Vec::new()).unwrap_err().to_string();
        assert_eq!(error, "cannot read /does/not/exist; name a file with -f");
    }
}
