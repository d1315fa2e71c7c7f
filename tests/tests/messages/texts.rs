//! The texts in a source: log lines, the types that print as text, and all other string literals that read as sentences.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{File, Item, Type, Visibility};

/// A call of one of tracing's macros.
pub(crate) struct Log {
    pub(crate) line: usize,
    pub(crate) level: String,
    pub(crate) fields: Vec<String>,
    /// The format string.
    pub(crate) message: Option<String>,
}

/// A string literal.
pub(crate) struct Text {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// A public type that prints as text.
pub(crate) struct Printed {
    pub(crate) name: String,
    pub(crate) variants: Vec<String>,
}

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The items of a source that are not only for tests.
fn items(source: &File) -> impl Iterator<Item = &Item> {
    source.items.iter().filter(|item| {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => return true,
        };
        !attributes.iter().any(|attribute| {
            attribute.path().is_ident("cfg") && attribute.meta.to_token_stream().to_string().contains("test")
        })
    })
}

/// All log lines of a source, in order.
pub(crate) fn logs(source: &File) -> Vec<Log> {
    let mut found = Vec::new();
    for item in items(source) {
        find_logs(item.to_token_stream(), &mut found);
    }
    found
}

fn find_logs(tokens: TokenStream, found: &mut Vec<Log>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        // `tracing :: level ! ( .. )`
        let path: Vec<String> = tokens[at.saturating_sub(5)..at].iter().map(ToString::to_string).collect();
        match &path[..] {
            [first, _, _, level, mark] if first == "tracing" && mark == "!" && LEVELS.contains(&level.as_str()) => {
                found.push(read_log(tokens[at - 5].span().start().line, level, group.stream()));
            }
            _ => find_logs(group.stream(), found),
        }
    }
}

/// Reads `field, name = %value, "message {field}", arguments`.
fn read_log(line: usize, level: &str, arguments: TokenStream) -> Log {
    let arguments: Vec<TokenTree> = arguments.into_iter().collect();
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ',');
    let mut log = Log { line, level: level.to_owned(), fields: Vec::new(), message: None };
    for argument in arguments.split(is_comma) {
        match argument {
            [TokenTree::Literal(literal)] => {
                log.message = literal_text(literal);
                break;
            }
            // `target: "..."` and `parent: &span` are not fields.
            [TokenTree::Ident(_), TokenTree::Punct(mark), ..] if mark.as_char() == ':' => {}
            [TokenTree::Punct(_), TokenTree::Ident(name), ..] => log.fields.push(name.to_string()),
            [TokenTree::Ident(name), ..] => log.fields.push(name.to_string()),
            _ => {}
        }
    }
    log
}

/// The literals of a source that read as part of a sentence: of two words or more. Log lines and documentation are left
/// out, the texts of `#[error(..)]` are not.
pub(crate) fn texts(source: &File) -> Vec<Text> {
    let mut found = Vec::new();
    for item in items(source) {
        find_texts(item.to_token_stream(), &mut found);
    }
    found
}

fn find_texts(tokens: TokenStream, found: &mut Vec<Text>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        let before = |back: usize| at.checked_sub(back).map(|at| tokens[at].to_string()).unwrap_or_default();
        match token {
            TokenTree::Group(group) => {
                let is_log = before(1) == "!" && before(5) == "tracing";
                let is_attribute = before(1) == "#" || (before(1) == "!" && before(2) == "#");
                let is_message = group.stream().to_string().starts_with("error");
                // What a developer of the library is told is not read by users.
                let is_assertion =
                    before(1) == "!" && ["assert", "assert_eq", "debug_assert"].contains(&before(2).as_str());
                let is_expected = before(1) == "expect";
                if !is_log && !is_assertion && !is_expected && (!is_attribute || is_message) {
                    find_texts(group.stream(), found);
                }
            }
            TokenTree::Literal(literal) => {
                let text = literal_text(literal).filter(|text| text.split_whitespace().count() > 1);
                found.extend(text.map(|text| Text { line: literal.span().start().line, text }));
            }
            _ => {}
        }
    }
}

fn literal_text(literal: &proc_macro2::Literal) -> Option<String> {
    syn::parse_str::<syn::LitStr>(&literal.to_string()).ok().map(|literal| literal.value())
}

/// The public types of a source that implement `Display` or derive `thiserror::Error`. A struct has no variants.
pub(crate) fn printed_types(source: &File) -> Vec<Printed> {
    let is_printed = |name: &syn::Ident, attributes: &[syn::Attribute]| {
        let derives = attributes.iter().filter(|attribute| attribute.path().is_ident("derive"));
        let mut derives = derives.map(|attribute| attribute.meta.to_token_stream().to_string());
        let mut implementations = source.items.iter().filter_map(|item| match item {
            Item::Impl(item) => Some((item.trait_.as_ref()?.1.segments.last()?.ident.to_string(), &*item.self_ty)),
            _ => None,
        });
        derives.any(|derive| derive.contains("Error"))
            || implementations.any(|(implemented, of)| {
                let of = match of {
                    Type::Path(path) => path.path.segments.last().map(|segment| &segment.ident),
                    _ => None,
                };
                implemented == "Display" && of == Some(name)
            })
    };
    items(source)
        .filter_map(|item| {
            let (visibility, name, attributes, variants) = match item {
                Item::Enum(item) => {
                    let variants = item.variants.iter().map(|variant| variant.ident.to_string()).collect();
                    (&item.vis, &item.ident, &item.attrs, variants)
                }
                Item::Struct(item) => (&item.vis, &item.ident, &item.attrs, Vec::new()),
                _ => return None,
            };
            let is_shown = matches!(visibility, Visibility::Public(_)) && is_printed(name, attributes);
            is_shown.then(|| Printed { name: name.to_string(), variants })
        })
        .collect()
}

/// Shows the list to those who ask for it with `--nocapture`.
#[allow(clippy::print_stdout, reason = "the list is what this test is run for")]
pub(crate) fn print(list: &str) {
    println!("{list}");
}
