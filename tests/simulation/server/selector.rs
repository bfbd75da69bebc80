//! Label and field selectors.

use serde_json::Value;

/// One requirement of a label selector.
#[derive(Clone, Debug, PartialEq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

/// What a list or a watch is narrowed to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    /// Path, whether it must be so, value.
    fields: Vec<(String, bool, String)>,
}

impl Selector {
    /// # Errors
    /// Says what cannot be read.
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, String> {
        let labels = split(labels).iter().map(|text| requirement(text)).collect::<Result<_, _>>()?;
        let fields = split(fields).iter().map(|text| field(text)).collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"].get(key).and_then(Value::as_str);
        let labels = self.labels.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => label(key).is_some_and(|is| values.iter().any(|value| value == is)),
            Requirement::NotIn(key, values) => label(key).is_none_or(|is| values.iter().all(|value| value != is)),
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Missing(key) => label(key).is_none(),
        });
        let field = |path: &str| path.split('.').fold(object, |value, name| &value[name]).as_str().unwrap_or_default();
        labels && self.fields.iter().all(|(path, so, value)| (field(path) == value) == *so)
    }
}

/// At commas that are not in parentheses.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut inside = false;
    for letter in text.chars() {
        match letter {
            ',' if !inside => parts.push(String::new()),
            letter => {
                inside = letter == '(' || inside && letter != ')';
                parts.last_mut().unwrap().push(letter);
            }
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn requirement(text: &str) -> Result<Requirement, String> {
    if text.starts_with('=') {
        return Err(format!("found '{text}', expected: !, identifier, or 'end of string'"));
    }
    if let Some(key) = text.strip_prefix('!') {
        return Ok(Requirement::Missing(key.to_owned()));
    }
    if let Some((head, values)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match head.split_whitespace().collect::<Vec<_>>()[..] {
            [key, "in"] => Ok(Requirement::In(key.to_owned(), values)),
            [key, "notin"] => Ok(Requirement::NotIn(key.to_owned(), values)),
            _ => Err(format!("unable to parse requirement: {text}")),
        };
    }
    let pair = |key: &str, value: &str| (key.trim().to_owned(), vec![value.trim().to_owned()]);
    Ok(if let Some((key, value)) = text.split_once("!=") {
        let (key, values) = pair(key, value);
        Requirement::NotIn(key, values)
    } else if let Some((key, value)) = text.split_once('=') {
        let (key, values) = pair(key, value.strip_prefix('=').unwrap_or(value));
        Requirement::In(key, values)
    } else {
        Requirement::Exists(text.to_owned())
    })
}

fn field(text: &str) -> Result<(String, bool, String), String> {
    let (path, so, value) = match text.split_once("!=") {
        Some((path, value)) => (path, false, value),
        None => {
            let (path, value) = text.split_once('=').ok_or(format!("invalid field selector: {text}"))?;
            (path, true, value.strip_prefix('=').unwrap_or(value))
        }
    };
    match path {
        "metadata.name" | "metadata.namespace" | "type" => Ok((path.to_owned(), so, value.to_owned())),
        other => Err(format!("field label not supported: {other}")),
    }
}
