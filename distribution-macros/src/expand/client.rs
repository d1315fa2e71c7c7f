//! The client, whose methods make calls.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};

use super::names::{documented_name, method_constant};
use crate::attributes;
use crate::model::{Argument, Method, Service};

/// The type, its constructor, and a method for each of the trait's.
pub(super) fn expand(service: &Service) -> TokenStream {
    let methods = service.methods.iter().map(|method| self::method(service, method));
    let structure = structure(service);
    let implementation = implementation(service, methods);
    let described = described(service, service.methods.iter().map(|method| description(service, method)));
    quote!(#structure #implementation #described)
}

/// The list of the client's methods, for callers that wait for nodes which serve them.
pub(super) fn described(service: &Service, descriptions: impl Iterator<Item = TokenStream>) -> TokenStream {
    let attributes = attributes::for_implementation(&service.item.attrs);
    let client = service.client();
    // Locals are hygienic here: a constant of the user's with this name is not matched against.
    quote_spanned! {Span::mixed_site()=>
        #(#attributes)*
        #[automatically_derived]
        #[allow(deprecated, unused_imports, unused_mut)]
        impl ::distribution::__private::ServiceClient for #client {
            fn methods() -> ::distribution::__private::ClientMethods {
                use ::distribution::__private::AnyTypes as _;
                let mut __distribution_methods = ::distribution::__private::ClientMethods::new();
                #(#descriptions)*
                __distribution_methods
            }
        }
    }
}

/// The statement that adds a method to the list.
fn description(service: &Service, method: &Method) -> TokenStream {
    let conditions = attributes::conditions(&method.item.attrs);
    let (whole, stream) = method.split_arguments();
    let kinds = whole.iter().map(|argument| &argument.kind);
    let kinds = quote!((#(#kinds,)*));
    let kinds = match stream {
        Some((_, items)) => quote!(::distribution::__private::SentArguments::<#kinds, #items>),
        None => kinds,
    };
    let value = &method.output.value;
    let error = method.output.error.as_ref().map(|error| quote!(, #error));
    let types = if method.output.error.is_some() { "FallibleTypes" } else { "PlainTypes" };
    let types = Ident::new(types, Span::mixed_site());
    let constant = method_constant(service, method);
    quote_spanned! {Span::mixed_site()=>
        #(#conditions)*
        ::distribution::__private::ClientMethods::add(
            &mut __distribution_methods,
            #constant,
            ::distribution::__private::#types::<#kinds, #value #error>::STRUCTURE,
        );
    }
}

/// The type itself. What `derive` would write is written out, so that it is never mistaken for the user's methods.
pub(super) fn structure(service: &Service) -> TokenStream {
    let type_attributes = attributes::for_type(&service.item.attrs);
    let attributes = attributes::for_implementation(&service.item.attrs);
    let visibility = &service.item.vis;
    let client = service.client();
    let name = client.to_string();
    let documentation = format!("Calls the methods of {} on nodes.", documented_name(service));
    quote! {
        #(#type_attributes)*
        #[doc = #documentation]
        ///
        /// Each method takes the arguments of the trait's and returns a [`Call`](::distribution::Call), which is
        /// sent when it is awaited, or by `send` or `wait`, or, for a stream of items, a
        /// [`StreamCall`](::distribution::StreamCall). A clone is cheap and calls through the same caller.
        #[allow(dead_code, non_camel_case_types)]
        #visibility struct #client {
            client: ::distribution::__private::RawClient,
        }

        #(#attributes)*
        #[automatically_derived]
        #[allow(deprecated)]
        impl ::core::clone::Clone for #client {
            fn clone(&self) -> Self {
                Self { client: ::core::clone::Clone::clone(&self.client) }
            }
        }

        #(#attributes)*
        #[automatically_derived]
        #[allow(deprecated)]
        impl ::core::fmt::Debug for #client {
            fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::DebugStruct::finish(::core::fmt::DebugStruct::field(
                    &mut ::core::fmt::Formatter::debug_struct(formatter, #name),
                    "client",
                    &self.client,
                ))
            }
        }
    }
}

/// The constructor, followed by `methods`.
pub(super) fn implementation(service: &Service, methods: impl Iterator<Item = TokenStream>) -> TokenStream {
    let attributes = attributes::for_implementation(&service.item.attrs);
    let client = service.client();
    quote! {
        #(#attributes)*
        #[allow(dead_code, deprecated)]
        impl #client {
            /// Makes a client whose calls go through `caller`, for instance a master.
            #[must_use]
            pub fn new(caller: &(impl ::distribution::Caller + ?::core::marker::Sized)) -> Self {
                Self { client: ::distribution::__private::RawClient::new(caller) }
            }

            #(#methods)*
        }
    }
}

/// The attributes of a client's method, its documentation among them.
pub(super) fn method_attributes(service: &Service, method: &Method) -> TokenStream {
    let attributes = attributes::for_client_method(&method.item.attrs);
    let documentation = (!attributes::are_documented(&method.item.attrs))
        .then(|| format!("Calls `{}` of {}.", method.name(), documented_name(service)))
        .map(|text| quote!(#[doc = #text]));
    quote!(#documentation #(#attributes)*)
}

/// `Call<T>` or `Call<T, E>`, or for a stream `StreamCall`.
pub(super) fn call_type(is_stream: bool, value: impl ToTokens, error: Option<impl ToTokens>) -> TokenStream {
    let error = error.map(|error| quote!(, #error));
    let name = if is_stream { quote!(StreamCall) } else { quote!(Call) };
    quote!(::distribution::#name<#value #error>)
}

fn method(service: &Service, method: &Method) -> TokenStream {
    let attributes = method_attributes(service, method);
    let identifier = method.identifier();
    let names: Vec<_> = method.arguments.iter().map(|argument| &argument.name).collect();
    let kinds = method.arguments.iter().map(|argument| &argument.kind);
    let is_stream = method.output.stream.is_some();
    let output = call_type(is_stream, &method.output.value, method.output.error.as_ref());
    let call = match (is_stream, method.output.error.is_some()) {
        (false, false) => "call",
        (false, true) => "call_fallible",
        (true, false) => "stream",
        (true, true) => "stream_fallible",
    };
    let place = method.output.place();
    let call = Ident::new(call, place);
    let constant = method_constant(service, method);
    let arguments = arguments(method);
    // Here rustc says that an answer is not what serde needs, so it is to be the answer's place.
    let body = quote_spanned! {place=>
        ::distribution::__private::RawClient::#call(&self.client, #constant, #arguments)
    };
    quote! {
        #attributes
        pub fn #identifier(&self #(, #names: #kinds)*) -> #output {
            #body
        }
    }
}

/// A reference to all arguments, in their place: rustc says there that one is not what serde needs.
fn arguments(method: &Method) -> TokenStream {
    let (first, last) = match method.arguments.as_slice() {
        [] => (method.output.place(), method.output.place()),
        [only] => (only.place(), only.place()),
        [first, .., last] => (first.place(), last.place()),
    };
    let (whole, stream) = method.split_arguments();
    let names = whole.iter().map(|argument| &argument.name);
    let in_place = |arguments: TokenStream| {
        let mut group = Group::new(Delimiter::Parenthesis, arguments);
        group.set_span(last);
        group
    };
    let tuple = in_place(quote!(#(#names,)*));
    match stream {
        Some((Argument { name, .. }, _)) => {
            let both = in_place(quote!(#tuple, #name));
            quote_spanned!(first=> &::distribution::__private::SentArguments::new #both)
        }
        None => quote_spanned!(first=> &#tuple),
    }
}
