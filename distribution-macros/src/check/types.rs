//! What the types in a method's signature may not hold.
//!
//! Arguments and answers cross a network, so they own what they hold, and both sides know them by name.

use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};
use syn::{
    GenericArgument, Lifetime, PathArguments, PathSegment, Type, TypeImplTrait, TypeNever, TypePath, TypeReference,
    parse_quote,
};

use crate::report::Report;
use crate::text;

/// Where in a signature a type stands.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Argument,
    Output,
}

/// Reports each part of `written` that cannot be sent.
pub(super) fn check(written: &Type, place: Place, report: &mut Report) {
    if let Type::Never(never) = written {
        never_returns(never, report);
        return;
    }
    Check { place, report }.visit_type(written);
}

/// Whether `check` has nothing to say about `written`.
pub(crate) fn is_sendable(written: &Type) -> bool {
    let mut report = Report::default();
    check(written, Place::Argument, &mut report);
    report.compile_errors().is_none()
}

/// The type to write instead of one that borrows: `String` for `&str`, `Vec<String>` for `&[&str]`.
pub(crate) fn owned(written: &Type) -> Type {
    let mut written = text::ungrouped(written).clone();
    Own.visit_type_mut(&mut written);
    written
}

fn never_returns(never: &TypeNever, report: &mut Report) {
    report.refuse(never, "a call ends with an answer: write the type that the method returns, or nothing");
}

struct Check<'a> {
    place: Place,
    report: &'a mut Report,
}

// Each visit that reports something stays out of what is inside, so that one mistake is one error.
impl<'ast> Visit<'ast> for Check<'_> {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        let what = match self.place {
            Place::Argument => "an argument is sent to a node and cannot be borrowed",
            Place::Output => "an answer is sent back and cannot be borrowed",
        };
        let instead = match text::ungrouped(&reference.elem) {
            Type::ImplTrait(_) | Type::TraitObject(_) => "write the type itself".to_owned(),
            _ => format!("write `{}`", text::of_type(&owned(&Type::Reference(reference.clone())))),
        };
        self.report.refuse(reference, format!("{what}: {instead}"));
    }

    fn visit_type_impl_trait(&mut self, written: &'ast TypeImplTrait) {
        self.report.refuse(written, "both sides must know the type: write it instead of `impl ..`");
    }

    fn visit_type_path(&mut self, path: &'ast TypePath) {
        let first = path.path.segments.first();
        match first.filter(|segment| segment.ident == "Self") {
            Some(segment) => self
                .report
                .refuse(&segment.ident, "a caller does not know the implementation: write the type instead of `Self`"),
            None => visit::visit_type_path(self, path),
        }
    }

    fn visit_path_segment(&mut self, segment: &'ast PathSegment) {
        if segment.ident == "Streaming" {
            let instead = match self.place {
                Place::Argument => "a stream of arguments is the last argument, by itself: write `name: Streaming<T>`",
                Place::Output => "`Streaming` is for arguments: write `impl Stream<Item = T> + Send`",
            };
            self.report.refuse(segment, instead);
            return;
        }
        match cow_content(segment) {
            Some(content) => {
                let instead = text::of_type(&owned_content(content));
                self.report.refuse(segment, format!("a `Cow` can be borrowed: write `{instead}`"));
            }
            None => visit::visit_path_segment(self, segment),
        }
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        self.report.refuse(lifetime, "what is sent owns what it holds: write a type without lifetimes");
    }
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
fn owned_content(content: &Type) -> Type {
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
fn cow_content(segment: &PathSegment) -> Option<&Type> {
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
