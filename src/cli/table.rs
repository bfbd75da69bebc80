//! Results as a table for people, or as JSON or YAML for programs.

use anyhow::Context as _;
use comfy_table::{Row, Table, presets};
use serde::Serialize;
use serde_json::Value;

use super::output::{clean, print, yaml};

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// The flag that chooses the format, for subcommands that print a table.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Output {
    /// How the result is printed.
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

impl Output {
    /// Prints `value` in the chosen format; `text` renders it for people.
    pub(super) fn print<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        print(&self.render(value, text)?)
    }

    fn render<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<String> {
        if self.format == Format::Table {
            return Ok(text(value));
        }
        let mut value = serde_json::to_value(value).context("cannot render the result")?;
        clean_value(&mut value);
        match self.format {
            Format::Yaml => yaml(&value),
            Format::Json | Format::Table => {
                Ok(serde_json::to_string_pretty(&value).context("cannot render JSON")? + "\n")
            }
        }
    }
}

/// A table without borders, as kubectl prints them; every cell is cleaned, an empty one is a dash.
pub(super) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(Row::from(row.map(|cell| or_dash(&cell))));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// The cleaned text, or a dash where there is none.
fn or_dash(text: &str) -> String {
    let text = clean(text);
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Cleans every string of a document, keys too.
fn clean_value(value: &mut Value) {
    match value {
        Value::String(text) => *text = clean(text),
        Value::Array(items) => items.iter_mut().for_each(clean_value),
        Value::Object(fields) => {
            for (mut key, mut value) in std::mem::take(fields) {
                key = clean(&key);
                clean_value(&mut value);
                fields.insert(key, value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a11_a_table_is_aligned_cleaned_and_without_trailing_blanks() {
        let text = table(
            ["NAME", "REASON"],
            [["books-east".to_owned(), String::new()], ["a".to_owned(), "No\u{1b}[1mRoute\n!".to_owned()]],
        );
        assert_eq!(text, "NAME         REASON\nbooks-east   -\na            NoRoute !\n");
    }

    #[test]
    fn a11_json_and_yaml_are_cleaned_too() {
        let value = serde_json::json!({"m\u{1b}[1m": ["a\u{202e}b", 1, true, null]});
        let render = |format| Output { format }.render(&value, |_| "text".to_owned()).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&render(Format::Json)).unwrap(),
            serde_json::json!({"m": ["ab", 1, true, null]})
        );
        assert_eq!(render(Format::Yaml), "m:\n- ab\n- 1\n- true\n- null\n");
        assert_eq!(render(Format::Table), "text");
    }
}
