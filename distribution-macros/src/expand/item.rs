//! The trait itself, as plain Rust.

use proc_macro2::Span;
use quote::quote;
use syn::{
    Attribute, FnArg, ItemTrait, Meta, ReturnType, TraitItem, TraitItemFn, TypeParamBound, parse_quote,
    parse_quote_spanned,
};

use crate::model::{Method, Service};

/// The trait as a plain one, with what nodes need of an implementation as supertraits.
pub(super) fn trait_item(service: &Service, items: impl Iterator<Item = TraitItem>) -> ItemTrait {
    let mut item = service.item.clone();
    if item.supertraits.iter().any(is_ours) {
        item.attrs.push(parse_quote!(#[allow(clippy::trait_duplication_in_bounds)]));
    }
    item.supertraits.push(parse_quote!(::core::marker::Send));
    item.supertraits.push(parse_quote!(::core::marker::Sync));
    item.supertraits.push(parse_quote!('static));
    item.items = items.collect();
    item
}

/// Whether the user wrote a supertrait that is added anyway, as far as its name tells: it may be another one.
fn is_ours(bound: &TypeParamBound) -> bool {
    let TypeParamBound::Trait(bound) = bound else {
        return false;
    };
    bound.path.segments.last().is_some_and(|segment| segment.ident == "Send" || segment.ident == "Sync")
}

/// The method as the trait has it.
pub(super) fn trait_method(method: &Method) -> TraitItemFn {
    let mut item = method.item.clone();
    for argument in &mut item.sig.inputs {
        let attributes = match argument {
            FnArg::Receiver(receiver) => &mut receiver.attrs,
            FnArg::Typed(argument) => &mut argument.attrs,
        };
        // Documentation of arguments is for people who read the trait; rustc refuses it.
        attributes.retain(|attribute| !attribute.path().is_ident("doc"));
    }
    if let Some(token) = item.sig.asyncness.take() {
        // A bare `async fn` in a trait promises no `Send`, and a node needs it.
        let place = Span::call_site().located_at(token.span);
        let output = match &item.sig.output {
            ReturnType::Default => quote!(()),
            ReturnType::Type(_, output) => quote!(#output),
        };
        item.sig.output = parse_quote_spanned! {place=>
            -> impl ::core::future::Future<Output = #output> + ::core::marker::Send
        };
        allow_must_use(&mut item.attrs);
    }
    item
}

/// `#[must_use]` on an `async fn` is about its output, and clippy would call it idle on the future that is written now.
fn allow_must_use(attributes: &mut Vec<Attribute>) {
    if attributes.iter().any(|attribute| matches!(&attribute.meta, Meta::Path(path) if path.is_ident("must_use"))) {
        attributes.push(parse_quote!(#[allow(clippy::double_must_use)]));
    }
}
