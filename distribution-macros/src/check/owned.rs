//! What to write instead of a type that borrows.

use syn::visit_mut::{self, VisitMut};
use syn::{GenericArgument, PathArguments, PathSegment, Type, parse_quote};

use crate::text;

/// The type to write instead of one that borrows: `String` for `&str`, `Vec<String>` for `&[&str]`.
pub(crate) fn owned(written: &Type) -> Type {
    let mut written = text::ungrouped(written).clone();
    Own.visit_type_mut(&mut written);
    written
}

struct Own;

impl VisitMut for Own {
    fn visit_type_mut(&mut self, written: &mut Type) {
        loop {
            let owned = match &*written {
                Type::Reference(reference) => owned_content(&reference.elem),
                Type::Path(path) => match path.path.segments.last().and_then(cow_content) {
                    Some(content) => owned_content(content),
                    None => break,
                },
                _ => break,
            };
            *written = owned;
        }
        visit_mut::visit_type_mut(self, written);
    }
}

/// What owns a `content` that is borrowed.
pub(super) fn owned_content(content: &Type) -> Type {
    let content = text::ungrouped(content);
    if let Type::Slice(slice) = content {
        let element = owned(&slice.elem);
        return parse_quote!(Vec<#element>);
    }
    let Type::Path(path) = content else {
        return owned(content);
    };
    let Some(last) = path.path.segments.last() else {
        return owned(content);
    };
    match last.ident.to_string().as_str() {
        "str" => parse_quote!(String),
        "Path" => parse_quote!(PathBuf),
        "OsStr" => parse_quote!(OsString),
        "CStr" => parse_quote!(CString),
        _ => owned(content),
    }
}

/// The `T` of a `Cow<'a, T>`.
pub(super) fn cow_content(segment: &PathSegment) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    if segment.ident != "Cow" {
        return None;
    }
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(content) => Some(content),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_borrowed_has_an_owned_form() {
        for (borrowed, expected) in [
            ("&str", "String"),
            ("&mut [u8]", "Vec<u8>"),
            ("&[&str]", "Vec<String>"),
            ("&HashMap<&str, Option<&[u8]>>", "HashMap<String, Option<Vec<u8>>>"),
            ("&&std::path::Path", "PathBuf"),
            ("Cow<'static, str>", "String"),
            ("std::borrow::Cow<'_, [Cow<str>]>", "Vec<String>"),
            ("&(u8)", "u8"),
            ("Vec<u8>", "Vec<u8>"),
        ] {
            let written: Result<Type, _> = syn::parse_str(borrowed);
            assert_eq!(written.map(|written| text::of_type(&owned(&written))).ok().as_deref(), Some(expected));
        }
    }
}
