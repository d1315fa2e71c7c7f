//! What server and client both write: the static of a method, and the trait's name in documentation.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;

use crate::model::{Method, Service};

/// An expression of type `&'static Method`. Its static is in a block of its own, so that it meets no name of the user's.
pub(super) fn method_constant(service: &Service, method: &Method) -> TokenStream {
    let service_name = service.name();
    let version = service.version();
    let name = method.name();
    let signature = method.signature();
    let idempotent = service.options.idempotent || method.idempotent;
    let new = if method.is_async() { quote!(new_async) } else { quote!(new) };
    let (items, argument) = (method.output.stream.is_some(), method.split_arguments().1.is_some());
    let description = quote! {
        ::distribution::__private::Method::#new(#service_name, #version, #name, #signature, #idempotent)
    };
    let description = if items || argument {
        quote!(::distribution::__private::Method::streaming(#description, #items, #argument))
    } else {
        description
    };
    quote! {
        {
            static __DISTRIBUTION_METHOD: ::distribution::__private::Method = #description;
            &__DISTRIBUTION_METHOD
        }
    }
}

/// The trait's name for documentation, linked where rustdoc can follow.
pub(super) fn documented_name(service: &Service) -> String {
    let written = service.item.ident.to_string();
    let name = service.item.ident.unraw().to_string();
    if written == name { format!("[`{name}`](trait@{name})") } else { format!("`{name}`") }
}
