//! Makes text that somebody else wrote fit for a status, a log line or a terminal.

/// Longest message taken over from a remote, in characters.
pub const MAX_MESSAGE: usize = 300;

/// The text on one line without control characters and without characters that change the
/// direction of what follows, cut to `max` characters. Total: any input gives a harmless output.
#[must_use]
pub fn clean(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for (taken, c) in text.trim().chars().enumerate() {
        if taken == max {
            out.push('…');
            break;
        }
        out.push(if is_harmless(c) { c } else { ' ' });
    }
    out
}

fn is_harmless(c: char) -> bool {
    let steers_direction = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks_lines = matches!(c, '\u{2028}' | '\u{2029}');
    !(c.is_control() || steers_direction || breaks_lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a11_control_characters_and_escapes_do_no_harm() {
        assert_eq!(clean("a\u{1b}[31mred\r\nnext\u{7f}\u{9b}\u{202e}x", 100), "a [31mred  next   x");
        assert_eq!(clean("  plain text ", 100), "plain text");
    }

    #[test]
    fn a11_long_text_is_cut_at_a_character() {
        assert_eq!(clean(&"é".repeat(300 * 1024), 4), "éééé…");
        assert_eq!(clean("four", 4), "four");
    }
}
