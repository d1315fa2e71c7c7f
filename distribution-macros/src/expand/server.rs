//! The server: an implementation of the trait with the routes that lead to its methods.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};

use super::names::{documented_name, method_constant};
use crate::attributes;
use crate::model::{Method, Service};

/// The type, its constructor, and its routes.
pub(super) fn expand(service: &Service) -> TokenStream {
    let structure = structure(service);
    let constructor = constructor(service);
    let routes = routes(service);
    quote!(#structure #constructor #routes)
}

/// The type itself, with a `Debug` that asks nothing of the implementation.
pub(super) fn structure(service: &Service) -> TokenStream {
    let type_attributes = attributes::for_type(&service.item.attrs);
    let attributes = attributes::for_implementation(&service.item.attrs);
    let visibility = &service.item.vis;
    let server = service.server();
    let parameter = service.parameter();
    let name = server.to_string();
    let documentation = format!("Serves an implementation of {} on a node.", documented_name(service));
    quote! {
        #(#type_attributes)*
        #[doc = #documentation]
        #[allow(dead_code, non_camel_case_types)]
        #visibility struct #server<#parameter> {
            implementation: #parameter,
        }

        #(#attributes)*
        #[automatically_derived]
        #[allow(deprecated)]
        impl<#parameter> ::core::fmt::Debug for #server<#parameter> {
            fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::DebugStruct::finish_non_exhaustive(
                    &mut ::core::fmt::Formatter::debug_struct(formatter, #name),
                )
            }
        }
    }
}

fn constructor(service: &Service) -> TokenStream {
    let attributes = attributes::for_implementation(&service.item.attrs);
    let server = service.server();
    let parameter = service.parameter();
    let item = &service.item.ident;
    quote! {
        #(#attributes)*
        #[allow(dead_code, deprecated)]
        impl<#parameter: #item> #server<#parameter> {
            /// Wraps `implementation`; a node that is given the result serves it.
            #[must_use]
            pub fn new(implementation: #parameter) -> Self {
                Self { implementation }
            }
        }
    }
}

fn routes(service: &Service) -> TokenStream {
    let attributes = attributes::for_implementation(&service.item.attrs);
    let server = service.server();
    let parameter = service.parameter();
    let item = &service.item.ident;
    let handlers = service.methods.iter().map(|method| handler(service, method));
    // Locals are hygienic here: a constant of the user's with one of these names is not matched against.
    quote_spanned! {Span::mixed_site()=>
        #(#attributes)*
        #[automatically_derived]
        #[allow(deprecated, unused_mut, unused_variables)]
        impl<#parameter: #item> ::distribution::__private::Service for #server<#parameter> {
            fn routes(self) -> ::distribution::__private::Routes {
                let __distribution_implementation = ::std::sync::Arc::new(self.implementation);
                let mut __distribution_routes = ::distribution::__private::Routes::new();
                #(#handlers)*
                __distribution_routes
            }
        }
    }
}

/// The statement that adds the route to one method.
fn handler(service: &Service, method: &Method) -> TokenStream {
    let conditions = attributes::conditions(&method.item.attrs);
    let is_stream = method.output.stream.is_some();
    let register = format_ident!(
        "{}{}{}",
        if method.is_async() { "asynchronous" } else { "compute" },
        if is_stream { "_stream" } else { "" },
        if method.output.error.is_some() { "_fallible" } else { "" },
        span = Span::mixed_site().located_at(method.item.sig.ident.span()),
    );
    let place = register.span();
    let constant = method_constant(service, method);
    let parameter = service.parameter();
    let item = &service.item.ident;
    let identifier = method.identifier();
    let names: Vec<Ident> = (0..method.arguments.len())
        .map(|position| format_ident!("__distribution_argument_{position}", span = Span::mixed_site()))
        .collect();
    // The types of the arguments follow from the call: written out, they could be hidden by the type parameter.
    let call = quote_spanned! {Span::mixed_site()=>
        <#parameter as #item>::#identifier(&*__distribution_implementation #(, #names)*)
    };
    let run = match (is_stream, method.is_async()) {
        (false, false) => call,
        (false, true) => quote_spanned!(Span::mixed_site()=> #call.await),
        (true, false) => quote_spanned! {Span::mixed_site()=>
            ::distribution::__private::Items::iterate(__distribution_items, #call)
        },
        (true, true) => quote_spanned! {Span::mixed_site()=>
            ::distribution::__private::Items::poll(__distribution_items, #call).await
        },
    };
    let body = if method.is_async() {
        quote_spanned! {Span::mixed_site()=>
            {
                let __distribution_implementation = ::core::clone::Clone::clone(&__distribution_implementation);
                async move { #run }
            }
        }
    } else {
        run
    };
    let arguments = match (method.split_arguments().1, names.split_last()) {
        (Some(_), Some((stream, whole))) => quote_spanned! {Span::mixed_site()=>
            ::distribution::__private::ReceivedArguments((#(#whole,)*), #stream)
        },
        _ => quote_spanned!(Span::mixed_site()=> (#(#names,)*)),
    };
    let items = is_stream.then(|| quote_spanned!(Span::mixed_site()=> , __distribution_items));
    // Here rustc says that a type is not what serde needs, so it is to be the method's place.
    quote_spanned! {place=>
        #(#conditions)*
        {
            let __distribution_implementation = ::core::clone::Clone::clone(&__distribution_implementation);
            ::distribution::__private::Routes::#register(
                &mut __distribution_routes,
                #constant,
                move |#arguments #items| #body,
            );
        }
    }
}
