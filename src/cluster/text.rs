//! Makes text that somebody else wrote fit for a status, a log line or a terminal.

/// Longest message taken over from a remote, in characters.
pub const MAX_MESSAGE: usize = 300;

/// The text on one line without control characters and without marks that reorder or hide what
/// stands beside them, cut to `max` characters. Total: any input gives a harmless output, and what
/// is harmless and short comes out as it is.
#[must_use]
pub fn clean(text: &str, max: usize) -> String {
    let harmless = text.chars().map(|c| if is_harmless(c) { c } else { ' ' });
    let mut rest = harmless.skip_while(|c| c.is_whitespace());
    let mut out: String = rest.by_ref().take(max).collect();
    if rest.any(|c| !c.is_whitespace()) {
        out.push('…');
    } else {
        out.truncate(out.trim_end().len());
    }
    out
}

/// Neither a control character nor a mark without a glyph (Unicode TR36: bidirectional controls,
/// separators of lines, zero-width characters, tags).
fn is_harmless(c: char) -> bool {
    let is_invisible = matches!(c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{61c}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    !(c.is_control() || is_invisible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a11_control_characters_and_escapes_do_no_harm() {
        assert_eq!(clean("a\u{1b}[31mred\r\nnext\u{7f}\u{9b}\u{202e}x", 100), "a [31mred  next   x");
        assert_eq!(clean("  plain text ", 100), "plain text");
        assert_eq!(clean("pay\u{200b}pal\u{feff}\u{e0041}\u{61c}x", 100), "pay pal   x");
        assert_eq!(clean("büchér 書", 100), "büchér 書");
    }

    #[test]
    fn a11_long_text_is_cut_at_a_character() {
        assert_eq!(clean(&"é".repeat(300 * 1024), 4), "éééé…");
        assert_eq!(clean("four", 4), "four");
        assert_eq!(clean("four     ", 4), "four");
    }

    #[test]
    fn a11_what_is_clean_stays_as_it_is() {
        for text in ["\u{1b}[2J\u{202e}\n", "\n \u{7}x\u{7} \n", "\u{feff}", " a\u{200b}", ""] {
            let once = clean(text, 100);
            assert_eq!(clean(&once, 100), once, "{text:?}");
        }
    }
}
