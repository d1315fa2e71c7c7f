//! The text of a method's signature, from which both sides tell whether they mean the same method.
//!
//! It depends on what the types say and not on how they are laid out: spaces, trailing commas, parentheses around a
//! type and the invisible groups around a `$type:ty` of `macro_rules!` make no difference.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit_mut::{self, VisitMut};
use syn::{AngleBracketedGenericArguments, ParenthesizedGenericArguments, PathArguments, PathSegment, Type, TypeTuple};

/// `fn(Vec<i64>) -> i64`, for `fn` and `async fn` alike: callers need not know how an implementation runs.
pub(crate) fn signature(arguments: impl Iterator<Item = Type>, output: &Type) -> String {
    let arguments: Vec<String> = arguments.map(|argument| of_type(&argument)).collect();
    format!("fn({}) -> {}", arguments.join(", "), of_type(output))
}

/// The text of one type, as rustfmt would print it on a line.
pub(crate) fn of_type(written: &Type) -> String {
    let mut written = written.clone();
    Normalise.visit_type_mut(&mut written);
    let mut text = Text::default();
    text.push_all(written.to_token_stream());
    text.written
}

/// The type inside any parentheses and invisible groups.
pub(crate) fn ungrouped(mut written: &Type) -> &Type {
    loop {
        match written {
            Type::Group(group) => written = &group.elem,
            Type::Paren(paren) => written = &paren.elem,
            _ => return written,
        }
    }
}

struct Normalise;

impl VisitMut for Normalise {
    fn visit_type_mut(&mut self, written: &mut Type) {
        if matches!(written, Type::Group(_) | Type::Paren(_)) {
            *written = ungrouped(written).clone();
        }
        visit_mut::visit_type_mut(self, written);
    }

    fn visit_type_tuple_mut(&mut self, tuple: &mut TypeTuple) {
        if tuple.elems.len() > 1 {
            tuple.elems.pop_punct();
        }
        visit_mut::visit_type_tuple_mut(self, tuple);
    }

    fn visit_path_segment_mut(&mut self, segment: &mut PathSegment) {
        if let PathArguments::AngleBracketed(arguments) = &segment.arguments {
            if arguments.args.is_empty() {
                segment.arguments = PathArguments::None;
            }
        }
        visit_mut::visit_path_segment_mut(self, segment);
    }

    fn visit_angle_bracketed_generic_arguments_mut(&mut self, arguments: &mut AngleBracketedGenericArguments) {
        arguments.colon2_token = None;
        arguments.args.pop_punct();
        visit_mut::visit_angle_bracketed_generic_arguments_mut(self, arguments);
    }

    fn visit_parenthesized_generic_arguments_mut(&mut self, arguments: &mut ParenthesizedGenericArguments) {
        arguments.inputs.pop_punct();
        visit_mut::visit_parenthesized_generic_arguments_mut(self, arguments);
    }
}

/// A line of tokens. Spaces follow from the tokens alone, because the spacing that the compiler reports differs
/// between what a user typed and what a macro made.
#[derive(Default)]
struct Text {
    written: String,
    after_keyword: bool,
}

impl Text {
    fn push_all(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            let followed_by = match tokens.peek() {
                Some(TokenTree::Punct(punct)) => Some(punct.as_char()),
                _ => None,
            };
            match token {
                TokenTree::Group(group) => self.push_group(group.delimiter(), group.stream()),
                TokenTree::Ident(ident) => {
                    let word = ident.to_string();
                    self.push_word(word.strip_prefix("r#").unwrap_or(&word));
                    self.after_keyword = matches!(word.as_str(), "as" | "const" | "dyn" | "mut");
                }
                TokenTree::Literal(literal) => self.push_word(&literal.to_string()),
                TokenTree::Punct(punct) => match (punct.as_char(), followed_by) {
                    ('-', Some('>')) => {
                        tokens.next();
                        self.push(" -> ");
                    }
                    (':', Some(':')) => {
                        tokens.next();
                        self.push("::");
                    }
                    ('+', _) => self.push(" + "),
                    ('=', _) => self.push(" = "),
                    (',', _) => self.push(", "),
                    (';', _) => self.push("; "),
                    (':', _) => self.push(": "),
                    ('\'', _) => self.push_word("'"),
                    (other, _) => self.push(other.encode_utf8(&mut [0; 4])),
                },
            }
        }
    }

    fn push_group(&mut self, delimiter: Delimiter, inner: TokenStream) {
        let (open, close) = match delimiter {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::Brace => ("{ ", " }"),
            Delimiter::None => return self.push_all(inner),
        };
        self.push(open);
        self.push_all(inner);
        let length = self.written.trim_end_matches(' ').len();
        self.written.truncate(length);
        self.push(close);
    }

    fn push_word(&mut self, word: &str) {
        let touches = |last: char| last.is_alphanumeric() || matches!(last, '_' | '>' | ')' | ']' | '"');
        if self.written.ends_with(touches) {
            self.written.push(' ');
        }
        self.after_keyword = false;
        self.push(word);
    }

    fn push(&mut self, text: &str) {
        if std::mem::take(&mut self.after_keyword) && !text.starts_with([' ', ',', ';', '>']) {
            self.written.push(' ');
        }
        self.written.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use proc_macro2::Group;
    use quote::quote;
    use syn::parse_quote;

    use super::*;

    fn text(written: &str) -> String {
        syn::parse_str(written).map_or_else(|error| format!("{written}: {error}"), |parsed: Type| of_type(&parsed))
    }

    #[test]
    fn a_signature_reads_like_a_function_pointer() {
        let arguments: [Type; 2] = [parse_quote!(Vec<i64>), parse_quote!([u8; 4])];
        assert_eq!(signature(arguments.into_iter(), &parse_quote!(())), "fn(Vec<i64>, [u8; 4]) -> ()");
        assert_eq!(signature([].into_iter(), &parse_quote!(Result<u8, E>)), "fn() -> Result<u8, E>");
    }

    #[test]
    fn layout_makes_no_difference() {
        for (one, other) in [
            ("Vec < i64 >", "Vec<i64>"),
            ("Vec<i64,>", "Vec<i64>"),
            ("Vec::<i64>", "Vec<i64>"),
            ("Unit<>", "Unit"),
            ("((u8),)", "(u8,)"),
            ("(u8, u16,)", "(u8, u16)"),
            ("(((u8)))", "u8"),
            ("Vec<Vec<u8> >", "Vec<Vec<u8>>"),
            ("Box<dyn Fn(u8,)->u8+Send>", "Box<dyn Fn(u8) -> u8 + Send>"),
            ("r#Vec<r#Item>", "Vec<Item>"),
        ] {
            assert_eq!(text(one), other);
            assert_eq!(text(other), other);
        }
    }

    #[test]
    fn types_print_as_people_write_them() {
        for written in [
            "()",
            "(u8,)",
            "[[f64; 3]; 4]",
            "HashMap<String, Vec<(u8, u16)>>",
            "<Vec<u8> as IntoIterator>::Item",
            "<T as ::core::ops::Add>::Output",
            "Box<dyn ::core::any::Any + Send>",
            "Matrix<{ N }, -1>",
            "*const [u8]",
            "&'a mut T",
            "for<'a> fn(&'a u8) -> bool",
            "Iter<Item = u8>",
            "array!(u8; 4)",
        ] {
            assert_eq!(text(written), written);
        }
    }

    #[test]
    fn an_invisible_group_makes_no_difference() {
        let group = Group::new(Delimiter::None, quote!(Vec<u8>));
        let grouped: Type = parse_quote!(Option<#group>);
        assert_eq!(of_type(&grouped), "Option<Vec<u8>>");
        let grouped: Type = parse_quote!(#group);
        assert_eq!(of_type(ungrouped(&grouped)), "Vec<u8>");
    }

    #[test]
    fn a_one_tuple_and_its_element_differ() {
        assert_ne!(text("(u8,)"), text("(u8)"));
    }
}
