//! What a refused service expands to: its errors, and items that let the code around it compile.
//!
//! A refused trait is used elsewhere: implemented, served, called. If it were missing, or if rustc refused it again, errors
//! that say nothing new would hide the ones that do. So the trait is passed on with as few changes as make it plain Rust,
//! and the types beside it accept what those of a valid service would. None of this code ever runs.

use std::collections::HashSet;

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};
use syn::{
    FnArg, GenericParam, Generics, Lifetime, LifetimeParam, Pat, PatWild, Signature, Token, TraitItem, TraitItemFn,
    Type, parse_quote,
};

use super::{
    client,
    item::{trait_item, trait_method},
    server,
};
use crate::attributes;
use crate::check::{is_sendable, owned};
use crate::model::{Argument, Method, Service};
use crate::streams::OutputStream;

/// The plain trait, the two types, and `errors`.
pub(crate) fn fallback(service: &Service, errors: &TokenStream) -> TokenStream {
    let item = plain_trait(service);
    let server = plain_server(service);
    let client = plain_client(service);
    quote!(#errors #item #server #client)
}

fn plain_trait(service: &Service) -> TokenStream {
    let methods = unrepeated(service).map(|method| TraitItem::Fn(plain_method(service, method)));
    let others = service.others.iter().filter_map(plain_item);
    let mut item = trait_item(service, methods.chain(others));
    item.auto_token = None;
    item.attrs.push(parse_quote!(#[allow(async_fn_in_trait)]));
    item.into_token_stream()
}

fn plain_method(service: &Service, method: &Method) -> TraitItemFn {
    // The body of an `async fn` does not fit the signature without `async`.
    let mut item = trait_method(method);
    if item.default.is_some() {
        item.sig.asyncness = method.item.sig.asyncness;
        item.sig.output = method.item.sig.output.clone();
    } else {
        item.sig.inputs.iter_mut().for_each(make_plain);
    }
    item.sig.inputs.iter_mut().for_each(|argument| Bare::Argument.visit_fn_arg_mut(argument));
    Bare::Output.visit_return_type_mut(&mut item.sig.output);
    item.sig.constness = None;
    item.sig.variadic = None;
    declare_lifetimes(&mut item.sig, &service.item.generics);
    item
}

fn plain_item(item: &TraitItem) -> Option<TraitItem> {
    match item {
        TraitItem::Type(item) => {
            let mut item = item.clone();
            item.default = None;
            Some(TraitItem::Type(item))
        }
        TraitItem::Verbatim(_) => None,
        item => Some(item.clone()),
    }
}

fn plain_server(service: &Service) -> TokenStream {
    let attributes = attributes::for_implementation(&service.item.attrs);
    let structure = server::structure(service);
    let server = service.server();
    quote! {
        #structure

        #(#attributes)*
        #[allow(dead_code, deprecated, missing_docs)]
        impl<S> #server<S> {
            pub fn new(implementation: S) -> Self {
                Self { implementation }
            }
        }

        #(#attributes)*
        #[allow(deprecated)]
        impl<S> ::distribution::__private::Service for #server<S>
        where
            S: ::core::marker::Send + ::core::marker::Sync + 'static,
        {
            fn routes(self) -> ::distribution::__private::Routes {
                ::core::unreachable!()
            }
        }
    }
}

fn plain_client(service: &Service) -> TokenStream {
    let structure = client::structure(service);
    let methods = unrepeated(service).filter_map(|method| client_method(service, method));
    let implementation = client::implementation(service, methods);
    let described = client::described(service, std::iter::empty());
    quote!(#structure #implementation #described)
}

/// A method for those who call it; where its types say nothing to a client, any argument will do.
fn client_method(service: &Service, method: &Method) -> Option<TokenStream> {
    if method.name() == "new" {
        return None;
    }
    let mut parameters = Parameters::default();
    parameters.declare(&service.item.generics);
    parameters.declare(&method.item.sig.generics);
    let says_something = |kind: &Type| is_sendable(kind) && !parameters.are_in(kind);
    let kinds = method.arguments.iter().map(|Argument { kind, items, .. }| {
        let is_known = says_something(items.as_ref().unwrap_or(kind));
        if is_known { kind.to_token_stream() } else { quote!(impl ::core::marker::Sized) }
    });
    let value = owned(&method.output.value);
    let error = method.output.error.as_ref().map(owned);
    if !says_something(&value) || !error.as_ref().is_none_or(says_something) {
        return None;
    }
    let attributes = client::method_attributes(service, method);
    let identifier = method.identifier();
    let output = client::call_type(method.output.stream.is_some(), value, error);
    Some(quote! {
        #attributes
        pub fn #identifier(&self #(, _: #kinds)*) -> #output {
            ::core::unreachable!()
        }
    })
}

fn unrepeated(service: &Service) -> impl Iterator<Item = &Method> {
    let methods = service.methods.iter().enumerate();
    methods.filter(|(position, _)| !service.repeats(*position)).map(|(_, method)| method)
}

/// Replaces what rustc refuses where there is no body.
fn make_plain(argument: &mut FnArg) {
    match argument {
        FnArg::Receiver(receiver) if receiver.reference.is_none() => receiver.mutability = None,
        FnArg::Receiver(_) => {}
        FnArg::Typed(argument) => match &mut *argument.pat {
            Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => pattern.mutability = None,
            pattern => *pattern = Pat::Wild(PatWild { attrs: Vec::new(), underscore_token: <Token![_]>::default() }),
        },
    }
}

/// Makes a type of `Stream<Item = T>` where that lacks its `impl`.
enum Bare {
    Argument,
    Output,
}

impl VisitMut for Bare {
    fn visit_type_mut(&mut self, written: &mut Type) {
        if let Some(stream) = OutputStream::new(written).filter(|stream| !stream.has_impl) {
            let OutputStream { item, bounds, .. } = stream;
            *written = match self {
                Self::Argument => parse_quote!(::distribution::Streaming<#item>),
                Self::Output => parse_quote!(impl #bounds),
            };
        }
        visit_mut::visit_type_mut(self, written);
    }
}

/// Declares the lifetimes that are named without having been declared: that they are there at all is the error.
fn declare_lifetimes(signature: &mut Signature, outer: &Generics) {
    let mut lifetimes = Lifetimes::default();
    lifetimes.declare(outer);
    lifetimes.visit_signature(signature);
    for lifetime in lifetimes.used {
        if lifetimes.declared.insert(lifetime.ident.clone()) {
            signature.generics.params.insert(0, GenericParam::Lifetime(LifetimeParam::new(lifetime)));
        }
    }
}

/// The names of type and constant parameters.
#[derive(Default)]
struct Parameters {
    declared: HashSet<Ident>,
    found: bool,
}

impl Parameters {
    fn declare(&mut self, generics: &Generics) {
        self.declared.extend(generics.type_params().map(|parameter| parameter.ident.clone()));
        self.declared.extend(generics.const_params().map(|parameter| parameter.ident.clone()));
    }

    fn are_in(&self, kind: &Type) -> bool {
        let mut search = Self { declared: self.declared.clone(), found: false };
        search.visit_type(kind);
        search.found
    }
}

impl<'ast> Visit<'ast> for Parameters {
    fn visit_ident(&mut self, ident: &'ast Ident) {
        self.found |= self.declared.contains(ident);
    }
}

#[derive(Default)]
struct Lifetimes {
    declared: HashSet<Ident>,
    used: Vec<Lifetime>,
}

impl Lifetimes {
    fn declare(&mut self, generics: &Generics) {
        self.declared.extend(generics.lifetimes().map(|parameter| parameter.lifetime.ident.clone()));
    }
}

impl<'ast> Visit<'ast> for Lifetimes {
    fn visit_lifetime_param(&mut self, parameter: &'ast LifetimeParam) {
        self.declared.insert(parameter.lifetime.ident.clone());
        visit::visit_lifetime_param(self, parameter);
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident != "static" && lifetime.ident != "_" {
            self.used.push(lifetime.clone());
        }
    }
}
