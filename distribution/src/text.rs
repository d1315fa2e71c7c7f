//! Text of a peer, made safe for a log or a terminal.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// The most bytes that are shown of a text whose length a peer chooses.
pub(crate) const LONGEST: usize = 4096;

/// Stands where the rest of a text is missing.
pub(crate) const CUT: &str = " …";

/// Whether a text shows everything that it contains: it has no control characters or line breaks, no invisible characters
/// (which can hide, reorder or join the text beside them), and no spaces but the usual one.
pub(crate) fn is_plain(text: &str) -> bool {
    text.chars().all(is_shown)
}

/// Whether [`is_plain`] allows this character.
pub(crate) fn is_shown(character: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator, SpaceSeparator, Unassigned};
    match character {
        ' '..='~' => true,
        // Letters, marks and symbols that show nothing: those that Unicode calls default-ignorable, and the empty pattern
        // of Braille.
        '\u{34f}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{ffa0}'
        | '\u{e0000}'..='\u{e0fff}' => false,
        _ => !matches!(
            character.general_category(),
            Control | Format | LineSeparator | ParagraphSeparator | SpaceSeparator | Unassigned
        ),
    }
}

/// Checks whether a text can be the name of a node.
///
/// # Errors
///
/// The rule that it breaks.
pub(crate) fn check_node_name(name: &str) -> Result<(), &'static str> {
    if !(1..=128).contains(&name.len()) || !is_plain(name) || name.trim() != name {
        return Err("must have 1 to 128 bytes, no spaces at its ends, and no control or invisible characters");
    }
    // It is printed in sentences, and could pretend to be the rest of one.
    if name.contains(' ') {
        return Err("must have no spaces");
    }
    Ok(())
}

/// The most bytes of the key of a label, and of its value.
pub(crate) const LONGEST_LABEL: usize = 128;

/// Whether a text can be a label, or the name of something else: it is not empty, has this many bytes at most, no spaces at
/// its ends, and no control or invisible characters.
pub(crate) fn is_short(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && is_plain(text) && text.trim() == text
}

/// The text on one line: characters that are not plain are escaped as in a Rust literal, and it is cut after `most` bytes.
pub(crate) fn in_one_line(text: &str, most: usize) -> String {
    escape(text, most, |_| false)
}

/// The same for a text that may have lines, such as the message of a panic: line breaks and tabs stay.
pub(crate) fn in_lines(text: &str, most: usize) -> String {
    escape(text, most, |character| matches!(character, '\n' | '\t'))
}

/// The text, cut to this many bytes at the end of a character, with a mark where something is missing.
pub(crate) fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(CUT);
    }
}

fn escape(text: &str, most: usize, stays: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len().min(most));
    for character in text.chars() {
        if shown.len() >= most {
            shown.push_str(CUT);
            break;
        }
        if is_shown(character) || stays(character) {
            shown.push(character);
        } else {
            shown.extend(character.escape_default());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_of_terminals_are_escaped() {
        for (text, shown) in [
            ("two\nlines", "two\\nlines"),
            ("\x1b[2J\r", "\\u{1b}[2J\\r"),
            ("\u{85}\u{9b}31m", "\\u{85}\\u{9b}31m"),
            ("abc\u{202e}fed\u{202c}", "abc\\u{202e}fed\\u{202c}"),
            ("\u{2066}x\u{2069}\u{200b}\u{feff}", "\\u{2066}x\\u{2069}\\u{200b}\\u{feff}"),
            ("a\u{2028}b\u{2029}c", "a\\u{2028}b\\u{2029}c"),
            ("\u{e0041}\u{ad}", "\\u{e0041}\\u{ad}"),
            ("\u{3164}\u{2800}\u{fe0f}\u{2065}\u{a0}", "\\u{3164}\\u{2800}\\u{fe0f}\\u{2065}\\u{a0}"),
        ] {
            assert!(!is_plain(text));
            assert_eq!(in_one_line(text, LONGEST), shown);
            assert!(is_plain(shown));
        }
        assert_eq!(in_lines("left: 1\n\tright: \x1b", LONGEST), "left: 1\n\tright: \\u{1b}");
    }

    #[test]
    fn plain_text_of_any_script_stays_as_it_is() {
        for text in ["node-1", "it's \"quoted\" \\", "Zürich", "ノード", "узел", "नोड", "e\u{301}", "🦀", ""]
        {
            assert!(is_plain(text), "{text}");
            assert_eq!(in_one_line(text, LONGEST), text);
        }
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(in_one_line("ääää", 4), "ää …");
        assert_eq!(in_one_line("abc", 3), "abc");
        for (most, left) in [(8, "ääää"), (7, "äää …"), (1, " …")] {
            let mut text = "ääää".to_owned();
            cut(&mut text, most);
            assert_eq!(text, left);
        }
        let long = "\x1b".repeat(1 << 20);
        assert!(in_one_line(&long, LONGEST).len() < LONGEST + 16);
    }
}
