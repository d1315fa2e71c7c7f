//! How a stream is to be written.

use quote::ToTokens;
use syn::{Token, Type};

use super::owned::owned;
use crate::report::Report;
use crate::streams::{OutputStream, StreamKind};
use crate::text;

/// Reports what is wrong with the stream that a method returns as `written`, apart from the type of its items.
pub(super) fn check(stream: &OutputStream, written: &Type, asyncness: Option<Token![async]>, report: &mut Report) {
    if let Some(token) = asyncness {
        // What is waited for in such a method is waited for by a `Stream`.
        let instead = instead(StreamKind::Stream, stream.item.as_ref());
        report.refuse(token, format!("a stream is waited for item by item: write `fn .. -> {instead}`"));
        return;
    }
    let instead = instead(stream.kind, stream.item.as_ref());
    let main = stream.bounds.get(stream.main);
    let (place, why) = if !stream.has_impl {
        (written.to_token_stream(), "a trait is not a type")
    } else if stream.item.is_none() {
        (main.to_token_stream(), "both sides must know the type of the items")
    } else if stream.trait_name().as_deref() != Some(stream.kind.name()) {
        (main.to_token_stream(), "a stream is an `Iterator` or a `Stream`")
    } else if stream.send().is_none() {
        (written.to_token_stream(), "a stream has to be `Send`")
    } else {
        let others = stream.bounds.iter().enumerate();
        let mut others = others.filter(|(at, _)| *at != stream.main && Some(*at) != stream.send());
        match others.next() {
            Some((_, other)) => (other.to_token_stream(), "a stream has no other bounds"),
            None => return,
        }
    };
    report.refuse(place, format!("{why}: write `{instead}`"));
}

/// What a method that returns a stream has behind its `->`.
pub(super) fn instead(kind: StreamKind, item: Option<&Type>) -> String {
    format!("impl {}<Item = {}> + Send", kind.name(), items(item))
}

/// The type of a stream's items, in what is to be written.
pub(super) fn items(item: Option<&Type>) -> String {
    item.map_or_else(|| "T".to_owned(), |item| text::of_type(&owned(item)))
}
