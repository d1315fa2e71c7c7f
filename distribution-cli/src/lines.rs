//! Texts that are cut or wrapped by the width that they have on a screen.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A text of at most this width. What is cut off is marked.
pub(crate) fn cut(text: &str, width: u16) -> String {
    let width = usize::from(width);
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut taken = 0;
    for letter in text.chars() {
        let next = letter.width().unwrap_or(0);
        if taken + next + 1 > width {
            break;
        }
        taken += next;
        cut.push(letter);
    }
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// A text in lines of at most this width, broken between words where that is possible, and at most this many.
pub(crate) fn wrap(text: &str, width: u16, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let is_full = lines.len() >= most;
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= usize::from(width) => {
                line.push(' ');
                line.push_str(word);
            }
            _ if !is_full => lines.push(word.to_owned()),
            Some(last) => {
                // The end is cut off below.
                last.push(' ');
                last.push_str(word);
            }
            None => break,
        }
    }
    lines.iter().map(|line| cut(line, width)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_wrapped_by_the_width_that_they_have_on_a_screen() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 5), "abcd…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(wrap("one two three four", 9, 3), ["one two", "three", "four"]);
        assert_eq!(wrap("one two three four", 9, 2), ["one two", "three fo…"]);
    }
}
