//! Text for people: results on stdout, progress on stderr. Text that comes from a cluster passes
//! [`clean`] before a terminal sees it; no colours are used, so that `NO_COLOR` holds by itself.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::Value;

/// How long something may take before a log is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes to stdout; a reader that went away is an error that ends the program quietly.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// One YAML document, in block style, strings of several lines as literal blocks.
pub(super) fn yaml(value: &Value) -> anyhow::Result<String> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(value, options).context("cannot render YAML")
}

/// Text of unknown origin, made harmless for a terminal: escape sequences and control characters
/// go, so do the marks that reorder or hide text; line breaks become spaces.
pub(super) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_escape(&mut rest),
            '\n' | '\r' | '\t' => clean.push(' '),
            c if c.is_control() || is_invisible(c) => {}
            c => clean.push(c),
        }
    }
    clean.trim().to_owned()
}

/// What follows an ESC: `[` … final byte (CSI), `]` … BEL or ESC `\` (OSC), else one character.
fn skip_escape(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match rest.next() {
        Some('[') => {
            rest.find(|c| ('\u{40}'..='\u{7e}').contains(c));
        }
        Some(']') => {
            while let Some(c) = rest.next() {
                if c == '\u{7}' || (c == '\u{1b}' && rest.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
}

/// Marks without a glyph that reorder or hide what stands beside them (Unicode TR36: bidirectional
/// controls, zero-width characters, tags).
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{61c}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Tells on stderr how far things are: lines that stay, and one that is overwritten while waiting.
pub(super) struct Progress {
    terminal: bool,
    waiting: String,
    since: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), waiting: String::new(), since: Instant::now() }
    }

    /// A line that stays.
    pub(super) fn say(&mut self, line: &str) {
        self.wipe();
        write(&format!("{}\n", clean(line)));
    }

    /// What is being waited for; on a terminal it is overwritten by what comes next. Elsewhere it is
    /// printed once, and only if it lasts: to be called again and again while waiting.
    pub(super) fn wait(&mut self, line: &str) {
        let line = clean(line);
        if line == self.waiting {
            return;
        }
        if self.terminal {
            self.wipe();
            write(&line);
            self.waiting = line;
        } else if self.since.elapsed() >= PATIENCE {
            write(&format!("{line}\n"));
            self.waiting = line;
        }
    }

    fn wipe(&mut self) {
        if self.terminal && !self.waiting.is_empty() {
            write("\r\u{1b}[K");
        }
        self.waiting.clear();
        self.since = Instant::now();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// A stderr that is closed must not end the work half-way.
fn write(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a11_remote_text_cannot_steer_a_terminal() {
        assert_eq!(clean("a\u{1b}[31mred\u{1b}[0mb"), "aredb");
        assert_eq!(clean("x\u{1b}]0;title\u{7}y\u{1b}]8;;http://e\u{1b}\\z"), "xyz");
        assert_eq!(clean("one\ntwo\r\u{8}\u{0}\u{9b}three"), "one two three");
        assert_eq!(clean("\u{202e}evil\u{2066}\u{200b}\u{feff}"), "evil");
        assert_eq!(clean("cut\u{1b}["), "cut");
        assert_eq!(clean("büchér 書"), "büchér 書");
    }

    #[test]
    fn yaml_keeps_lines_as_they_are() {
        let long = "x".repeat(300) + " y";
        let text = yaml(&serde_json::json!({"a": "one\ntwo\n", "b": long})).unwrap();
        assert_eq!(text, format!("a: |\n  one\n  two\nb: {long}\n"));
    }
}
