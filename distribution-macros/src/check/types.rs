//! What the types in a method's signature may not hold.
//!
//! Arguments and answers cross a network, so they own what they hold, and both sides know them by name.

use syn::visit::{self, Visit};
use syn::{Lifetime, PathSegment, Type, TypeImplTrait, TypeNever, TypeParamBound, TypePath, TypeReference};

use super::owned::{cow_content, owned, owned_content};
use super::streams::{instead, items};
use crate::report::Report;
use crate::streams::{AnyStream, StreamKind, associated_type, streaming_items};
use crate::text;

/// Where in a signature a type stands.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Argument,
    Output,
    /// An item of a stream, in either direction.
    Item,
}

/// Reports each part of `written` that cannot be sent.
pub(super) fn check(written: &Type, place: Place, report: &mut Report) {
    if let Type::Never(never) = written {
        self::never(never, place, report);
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

fn never(never: &TypeNever, place: Place, report: &mut Report) {
    let message = match place {
        Place::Output => "a call ends with an answer: write the type that the method returns, or nothing",
        Place::Argument | Place::Item => "there is no value of `!` that could be sent: write another type",
    };
    report.refuse(never, message);
}

struct Check<'a> {
    place: Place,
    report: &'a mut Report,
}

impl Check<'_> {
    /// What is wrong with a stream inside another type, or in another form.
    fn stream(&self, AnyStream { kind, item }: &AnyStream) -> String {
        let (instead, items) = (instead(*kind, item.as_ref()), items(item.as_ref()));
        match self.place {
            Place::Argument => {
                format!(
                    "both sides must know the type: write `Vec<{items}>`, or `Streaming<{items}>` as the last argument"
                )
            }
            Place::Output => format!("a stream is returned by itself: write `fn .. -> {instead}`"),
            Place::Item => format!("an item is sent whole: write `Vec<{items}>`"),
        }
    }

    /// The same for a `Streaming`.
    fn streaming(&self, item: &Type) -> String {
        let (instead, items) = (instead(StreamKind::Stream, Some(item)), items(Some(item)));
        match self.place {
            Place::Argument => {
                format!("a stream of arguments is the last argument, by itself: write `name: Streaming<{items}>`")
            }
            Place::Output => format!("`Streaming` is for arguments: write `fn .. -> {instead}`"),
            Place::Item => format!("an item is sent whole: write `Vec<{items}>`"),
        }
    }
}

// Each visit that reports something stays out of what is inside, so that one mistake is one error.
impl<'ast> Visit<'ast> for Check<'_> {
    fn visit_type(&mut self, written: &'ast Type) {
        if let Some(stream) = AnyStream::new(written) {
            let message = self.stream(&stream);
            self.report.refuse(written, message);
        } else if let Some(item) = streaming_items(written) {
            let message = self.streaming(item);
            self.report.refuse(written, message);
        } else {
            visit::visit_type(self, written);
        }
    }

    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        let content = text::ungrouped(&reference.elem);
        if AnyStream::new(content).is_some() {
            return self.visit_type(content);
        }
        let what = match self.place {
            Place::Argument => "an argument is sent to a node and cannot be borrowed",
            Place::Output => "an answer is sent back and cannot be borrowed",
            Place::Item => "an item is sent and cannot be borrowed",
        };
        let instead = match content {
            Type::ImplTrait(_) | Type::TraitObject(_) => "write the type itself".to_owned(),
            _ => format!("write `{}`", text::of_type(&owned(&Type::Reference(reference.clone())))),
        };
        self.report.refuse(reference, format!("{what}: {instead}"));
    }

    fn visit_type_impl_trait(&mut self, written: &'ast TypeImplTrait) {
        let message = match (self.place, future_output(written)) {
            (Place::Output, Some(output)) => {
                format!("a method that waits is an `async fn`: write `async fn .. -> {}`", text::of_type(output))
            }
            _ => "both sides must know the type: write it instead of `impl ..`".to_owned(),
        };
        self.report.refuse(written, message);
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

/// The `T` of an `impl Future<Output = T>`.
fn future_output(written: &TypeImplTrait) -> Option<&Type> {
    written.bounds.iter().find_map(|bound| match bound {
        TypeParamBound::Trait(bound) => {
            let last = bound.path.segments.last().filter(|segment| segment.ident == "Future")?;
            associated_type(last, "Output")
        }
        _ => None,
    })
}
