//! Writes the code for a service. Nothing in here can fail: what could was refused by `check`.
//!
//! Generated code names everything by an absolute path below `::core`, `::std` and `::distribution`, calls nothing in
//! method position, and declares no item but the two types where the user's names are, so nothing of the user's can come in between, and a service
//! works in a module, in a function's body and in the output of another macro.

mod client;
mod fallback;
mod server;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::{
    Attribute, FnArg, ItemTrait, Meta, ReturnType, TraitItem, TraitItemFn, TypeParamBound, parse_quote,
    parse_quote_spanned,
};

use crate::model::{Method, Service};
pub(crate) use fallback::fallback;

/// The trait and the two types, of a service that passed every check.
pub(crate) fn service(service: &Service) -> TokenStream {
    let item = trait_item(service, service.methods.iter().map(|method| trait_method(method).into()));
    let server = server::expand(service);
    let client = client::expand(service);
    quote!(#item #server #client)
}

/// The trait as a plain one, with what nodes need of an implementation as supertraits.
fn trait_item(service: &Service, items: impl Iterator<Item = TraitItem>) -> ItemTrait {
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
fn trait_method(method: &Method) -> TraitItemFn {
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

/// An expression of type `&'static Method`. Its static is in a block of its own, so that it meets no name of the user's.
fn method_constant(service: &Service, method: &Method) -> TokenStream {
    let service_name = service.name();
    let version = service.version();
    let name = method.name();
    let signature = method.signature();
    let idempotent = service.options.idempotent || method.idempotent;
    quote! {
        {
            static __DISTRIBUTION_METHOD: ::distribution::__private::Method =
                ::distribution::__private::Method::new(#service_name, #version, #name, #signature, #idempotent);
            &__DISTRIBUTION_METHOD
        }
    }
}

/// The trait's name for documentation, linked where rustdoc can follow.
fn documented_name(service: &Service) -> String {
    let written = service.item.ident.to_string();
    let name = service.item.ident.unraw().to_string();
    if written == name { format!("[`{name}`](trait@{name})") } else { format!("`{name}`") }
}
