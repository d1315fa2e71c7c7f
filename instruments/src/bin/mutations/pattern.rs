//! Where in a function a pattern matches, token by token.

use std::{collections::BTreeMap, ops::Range};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A token, or one end of a group, with its place in the source.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    text: String,
    is_name: bool,
    place: Range<usize>,
}

/// What the names of a fault's patterns stand for.
pub(crate) type Names = BTreeMap<String, String>;

/// All tokens, those in groups included. Comments and formatting leave none.
pub(crate) fn tokens(stream: TokenStream) -> Vec<Token> {
    let mut tokens = Vec::new();
    collect(stream, &mut tokens);
    tokens
}

fn collect(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        let place = tree.span().byte_range();
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                tokens.push(Token { text: open.into(), is_name: false, place: group.span_open().byte_range() });
                collect(group.stream(), tokens);
                tokens.push(Token { text: close.into(), is_name: false, place: group.span_close().byte_range() });
            }
            TokenTree::Ident(name) => tokens.push(Token { text: name.to_string(), is_name: true, place }),
            other => tokens.push(Token { text: other.to_string(), is_name: false, place }),
        }
    }
}

/// The places where a pattern matches, with what its names stand for there. Names that are known already match that only.
///
/// # Errors
///
/// Says why the pattern is none.
pub(crate) fn find(source: &[Token], pattern: &str, known: &Names) -> Result<Vec<(Range<usize>, Names)>, String> {
    let parsed = pattern.parse::<TokenStream>().map_err(|error| format!("the pattern `{pattern}`: {error}"))?;
    let pattern = tokens(parsed);
    let matches = (0..source.len()).filter_map(|start| matched(&source[start..], &pattern, known.clone()));
    Ok(matches.collect())
}

/// Whether the source begins with the pattern.
fn matched(source: &[Token], pattern: &[Token], mut names: Names) -> Option<(Range<usize>, Names)> {
    let start = source.first()?.place.start;
    let mut end = start;
    let (mut at, mut next) = (0, 0);
    while at < pattern.len() {
        let found = source.get(next)?;
        if pattern[at].text == "$" {
            at += 1;
            let name = names.entry(pattern.get(at)?.text.clone()).or_insert_with(|| found.text.clone());
            if !found.is_name || *name != found.text {
                return None;
            }
        } else if found.text != pattern[at].text {
            return None;
        }
        end = found.place.end;
        at += 1;
        next += 1;
    }
    Some((start..end, names))
}

/// A text with what its names stand for.
pub(crate) fn filled(text: &str, names: &Names) -> String {
    let mut parts = text.split('$');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let length = part.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(part.len());
        let (name, rest) = part.split_at(length);
        filled += names.get(name).map_or(name, String::as_str);
        filled += rest;
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(source: &str, pattern: &str) -> Vec<String> {
        let tokens = tokens(source.parse().expect("lexes"));
        let found = find(&tokens, pattern, &Names::new()).expect("a pattern");
        found.into_iter().map(|(place, _)| source[place].to_owned()).collect()
    }

    #[test]
    fn formatting_and_comments_do_not_matter() {
        assert_eq!(places("a; self . b( // why\n c ,\n d); e", "self.b(c, d);"), ["self . b( // why\n c ,\n d);"]);
        assert_eq!(places("a.b(c)", "b(d)"), [""; 0]);
    }

    #[test]
    fn a_name_matches_any_identifier_and_always_the_same() {
        assert_eq!(places("x = x.min(y); x = z.min(y);", "$a = $a.min($b);"), ["x = x.min(y);"]);
        assert_eq!(places("f(1); f(x)", "f($a)"), ["f(x)"]);
    }

    #[test]
    fn a_text_has_what_the_names_stand_for() {
        let source = tokens("call.kept = upto;".parse().expect("lexes"));
        let found = find(&source, "$call.kept = $upto", &Names::new()).expect("a pattern");
        let (_, names) = &found[0];
        assert_eq!(filled("$call.kept = $upto + other; // $call", names), "call.kept = upto + other; // call");
    }
}
