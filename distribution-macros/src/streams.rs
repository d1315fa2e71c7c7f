//! How streams are written in a signature: a `Streaming<T>` as an argument, `impl Iterator<Item = T> + Send` and
//! `impl Stream<Item = T> + Send` as what a method returns, and the other ways in which people try it.

use proc_macro2::Ident;
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::{GenericArgument, PathArguments, PathSegment, Token, TraitBound, TraitBoundModifier, Type, TypeParamBound};

use crate::text;

/// How a stream that a method returns makes its items.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// On a slot.
    Iterator,
    /// On the node's runtime.
    Stream,
}

/// A type that says no more of itself than that it yields items.
pub(crate) struct AnyStream {
    pub(crate) kind: StreamKind,
    /// The type of the items, if it is there.
    pub(crate) item: Option<Type>,
}

/// A stream that a method returns.
pub(crate) struct OutputStream {
    pub(crate) kind: StreamKind,
    /// The type of the items, if it is there.
    pub(crate) item: Option<Type>,
    pub(crate) bounds: Bounds,
    /// Which of the bounds makes it a stream.
    pub(crate) main: usize,
    pub(crate) has_impl: bool,
}

pub(crate) type Bounds = Punctuated<TypeParamBound, Token![+]>;

impl StreamKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Iterator => "Iterator",
            Self::Stream => "Stream",
        }
    }
}

impl AnyStream {
    /// `None` if it is none.
    pub(crate) fn new(written: &Type) -> Option<Self> {
        if let Some(OutputStream { kind, item, .. }) = OutputStream::new(written) {
            return Some(Self { kind, item });
        }
        match written {
            Type::TraitObject(object) => {
                let (_, kind, item) = main_bound(&object.bounds)?;
                // Without items it may be another trait of that name.
                item.map(|item| Self { kind, item: Some(item) })
            }
            Type::Path(path) => {
                let last = path.path.segments.last()?;
                let is_boxed = is(&last.ident, "BoxStream") || is(&last.ident, "LocalBoxStream");
                match generic_arguments(last).as_slice() {
                    [GenericArgument::Lifetime(_), GenericArgument::Type(item)] if is_boxed => {
                        Some(Self { kind: StreamKind::Stream, item: Some(text::ungrouped(item).clone()) })
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

impl OutputStream {
    /// `None` if it is none.
    pub(crate) fn new(written: &Type) -> Option<Self> {
        let (bounds, has_impl) = match written {
            Type::ImplTrait(written) => (written.bounds.clone(), true),
            written => (bare_bounds(written)?, false),
        };
        let (main, kind, item) = main_bound(&bounds)?;
        Some(Self { kind, item, bounds, main, has_impl })
    }

    /// The name of the trait that makes it a stream.
    pub(crate) fn trait_name(&self) -> Option<String> {
        self.bounds.get(self.main).and_then(last_segment).map(|segment| segment.ident.unraw().to_string())
    }

    /// The bound that says that it is `Send`.
    pub(crate) fn send(&self) -> Option<usize> {
        self.bounds.iter().position(|bound| {
            let is_plain =
                matches!(bound, TypeParamBound::Trait(bound) if matches!(bound.modifier, TraitBoundModifier::None));
            is_plain && last_segment(bound).is_some_and(|segment| is(&segment.ident, "Send"))
        })
    }
}

/// The bounds of a stream that lacks its `impl`.
fn bare_bounds(written: &Type) -> Option<Bounds> {
    let bounds: Bounds = match written {
        Type::TraitObject(object) if object.dyn_token.is_none() => object.bounds.clone(),
        Type::Path(path) if path.qself.is_none() => {
            let (paren_token, modifier, lifetimes) = (None, TraitBoundModifier::None, None);
            let bound = TraitBound { paren_token, modifier, lifetimes, path: path.path.clone() };
            [TypeParamBound::Trait(bound)].into_iter().collect()
        }
        _ => return None,
    };
    let (main, _, item) = main_bound(&bounds)?;
    let name = last_segment(bounds.get(main)?)?.ident.unraw();
    // Anything else may be a type of the user's.
    (item.is_some() && (name == "Iterator" || name == "Stream")).then_some(bounds)
}

/// The `T` of a `Streaming<T>`.
pub(crate) fn streaming_items(written: &Type) -> Option<&Type> {
    let Type::Path(path) = written else {
        return None;
    };
    let last = path.path.segments.last()?;
    // `<Job as Work>::Streaming<T>` is an associated type, which can be anything.
    if path.qself.is_some() || !is(&last.ident, "Streaming") {
        return None;
    }
    // Rustc says it when there is none, or more than one.
    generic_arguments(last).into_iter().find_map(|argument| match argument {
        GenericArgument::Type(items) => Some(text::ungrouped(items)),
        _ => None,
    })
}

/// Which bound makes something a stream, which kind of stream, and its items.
fn main_bound(bounds: &Bounds) -> Option<(usize, StreamKind, Option<Type>)> {
    let segments = || bounds.iter().enumerate().filter_map(|(at, bound)| Some((at, last_segment(bound)?)));
    let exact = |segment: &PathSegment| match segment.ident.unraw().to_string().as_str() {
        "Iterator" => Some(StreamKind::Iterator),
        "Stream" => Some(StreamKind::Stream),
        _ => None,
    };
    // `DoubleEndedIterator`, `IntoIterator`, `FusedStream` and the like.
    let similar = |segment: &PathSegment| match segment.ident.unraw().to_string().as_str() {
        "AsyncIterator" => Some(StreamKind::Stream),
        name if name.ends_with("Iterator") => Some(StreamKind::Iterator),
        name if name.ends_with("Stream") => Some(StreamKind::Stream),
        _ => None,
    };
    let found = segments().find_map(|(at, segment)| Some((at, exact(segment)?, segment)));
    let found = found.or_else(|| segments().find_map(|(at, segment)| Some((at, similar(segment)?, segment))));
    found.map(|(at, kind, segment)| (at, kind, associated_type(segment, "Item").cloned()))
}

/// The `T` of an `Iterator<Item = T>`.
pub(crate) fn associated_type<'a>(segment: &'a PathSegment, name: &str) -> Option<&'a Type> {
    generic_arguments(segment).into_iter().find_map(|argument| match argument {
        GenericArgument::AssocType(binding) if is(&binding.ident, name) => Some(text::ungrouped(&binding.ty)),
        _ => None,
    })
}

fn last_segment(bound: &TypeParamBound) -> Option<&PathSegment> {
    match bound {
        TypeParamBound::Trait(bound) => bound.path.segments.last(),
        _ => None,
    }
}

fn generic_arguments(segment: &PathSegment) -> Vec<&GenericArgument> {
    match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => arguments.args.iter().collect(),
        _ => Vec::new(),
    }
}

fn is(ident: &Ident, name: &str) -> bool {
    ident.unraw() == name
}
