//! A service as the macro sees it: what was written, sorted by what it is for.
//!
//! A model can be built from any trait; whether it is one that can be called over a network is `check`'s to say.

use proc_macro2::{Ident, Span};
use quote::format_ident;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, FnArg, GenericArgument, ItemTrait, Pat, PathArguments, Receiver, ReturnType, TraitItem, TraitItemFn,
    Type, Visibility, parse_quote,
};

use crate::attributes;
use crate::parse::{self, ServiceOptions};
use crate::report::Report;
use crate::streams::{OutputStream, StreamKind, streaming_items};
use crate::text;

/// A trait that becomes a service.
pub(crate) struct Service {
    /// The trait without its items and without our attributes.
    pub(crate) item: ItemTrait,
    pub(crate) options: ServiceOptions,
    pub(crate) methods: Vec<Method>,
    /// What a trait may hold and a service may not.
    pub(crate) others: Vec<TraitItem>,
}

/// One method of a service.
pub(crate) struct Method {
    /// The method as written, without our attributes.
    pub(crate) item: TraitItemFn,
    pub(crate) visibility: Visibility,
    pub(crate) idempotent: bool,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) output: Output,
}

/// One argument of a method; the receiver is not one.
pub(crate) struct Argument {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) pattern: Pat,
    /// What the client calls it: a name that can be used in an expression, even where the trait has `_`.
    pub(crate) name: Ident,
    pub(crate) kind: Type,
    /// The type of the items, if it is a `Streaming`.
    pub(crate) items: Option<Type>,
}

/// What a method returns.
pub(crate) struct Output {
    /// The whole return type, `()` if none is written.
    pub(crate) written: Type,
    /// What one answer is: the return type, or the type of a stream's items, `()` if that is not there.
    pub(crate) returned: Type,
    /// What a successful call gives, or each item of a stream that is not an error.
    pub(crate) value: Type,
    /// The method's own error, if it returns a `Result`.
    pub(crate) error: Option<Type>,
    /// Whether it returns a `Result` whose error type is hidden behind an alias.
    pub(crate) hides_error: bool,
    /// What it returns if that is a stream of items.
    pub(crate) stream: Option<OutputStream>,
}

impl Service {
    /// Sorts the parts of `item`.
    pub(crate) fn new(mut item: ItemTrait, options: ServiceOptions, report: &mut Report) -> Self {
        parse::no_options(&mut item.attrs, report);
        let mut methods = Vec::new();
        let mut others = Vec::new();
        for item in std::mem::take(&mut item.items) {
            match parse::trait_function(item) {
                Ok(function) => methods.push(Method::new(function.item, function.visibility, report)),
                Err(other) => others.push(*other),
            }
        }
        Self { item, options, methods, others }
    }

    /// What the service is called on the wire.
    pub(crate) fn name(&self) -> String {
        match &self.options.name {
            Some(name) => name.value(),
            None => self.item.ident.unraw().to_string(),
        }
    }

    pub(crate) fn version(&self) -> u32 {
        self.options.version.unwrap_or(1)
    }

    /// The identifier of the type that serves an implementation.
    pub(crate) fn server(&self) -> Ident {
        located(&format_ident!("{}Server", self.item.ident), self.item.ident.span())
    }

    /// The identifier of the type whose methods are calls.
    pub(crate) fn client(&self) -> Ident {
        located(&format_ident!("{}Client", self.item.ident), self.item.ident.span())
    }

    /// The type parameter of the server; anything but the name of the trait.
    pub(crate) fn parameter(&self) -> Ident {
        let name = if self.item.ident == "S" { "T" } else { "S" };
        Ident::new(name, Span::call_site())
    }

    /// Whether the second of two methods that exist under the same conditions has the name of the first.
    pub(crate) fn repeats(&self, position: usize) -> bool {
        let conditional = |method: &Method| !attributes::conditions(&method.item.attrs).is_empty();
        let Some(method) = self.methods.get(position) else {
            return false;
        };
        let named_before = |earlier: &Method| earlier.name() == method.name() && !conditional(earlier);
        !conditional(method) && self.methods.iter().take(position).any(named_before)
    }
}

impl Method {
    fn new(mut item: TraitItemFn, visibility: Visibility, report: &mut Report) -> Self {
        let options = parse::method_options(&mut item.attrs, report);
        let typed = item.sig.inputs.iter().filter_map(|argument| match argument {
            FnArg::Typed(argument) => Some(argument),
            FnArg::Receiver(_) => None,
        });
        let mut arguments: Vec<Argument> = Vec::new();
        for argument in typed {
            let is_new = |name: &Ident| arguments.iter().all(|earlier| earlier.name != *name);
            let name = match &*argument.pat {
                Pat::Ident(pattern) if is_new(&pattern.ident) => located(&pattern.ident, pattern.ident.span()),
                // Two arguments can have one name if a macro made one of them.
                _ => Ident::new(&format!("argument_{}", arguments.len()), Span::mixed_site()),
            };
            let kind = text::ungrouped(&argument.ty).clone();
            let items = streaming_items(&kind).cloned();
            arguments.push(Argument {
                attributes: argument.attrs.clone(),
                pattern: (*argument.pat).clone(),
                name,
                kind,
                items,
            });
        }
        let output = Output::new(&item.sig.output);
        Self { item, visibility, idempotent: options.idempotent, arguments, output }
    }

    /// What the method is called on the wire.
    pub(crate) fn name(&self) -> String {
        self.item.sig.ident.unraw().to_string()
    }

    /// The identifier for generated code.
    pub(crate) fn identifier(&self) -> Ident {
        located(&self.item.sig.ident, self.item.sig.ident.span())
    }

    pub(crate) fn receiver(&self) -> Option<&Receiver> {
        self.item.sig.receiver()
    }

    /// Whether it runs on the node's runtime, and not in a slot.
    pub(crate) fn is_async(&self) -> bool {
        let stream = self.output.stream.as_ref().map(|stream| stream.kind);
        self.item.sig.asyncness.is_some() || stream == Some(StreamKind::Stream)
    }

    /// The arguments that are sent whole, and the stream behind them.
    pub(crate) fn split_arguments(&self) -> (&[Argument], Option<(&Argument, &Type)>) {
        match self.arguments.split_last() {
            Some((last @ Argument { items: Some(items), .. }, whole)) => (whole, Some((last, items))),
            _ => (&self.arguments, None),
        }
    }

    /// Both sides agree on streams however they are written: callers need not know how an implementation runs.
    pub(crate) fn signature(&self) -> String {
        let arguments = self.arguments.iter().map(|argument| match &argument.items {
            Some(items) => parse_quote!(Streaming<#items>),
            None => argument.kind.clone(),
        });
        let returned = &self.output.returned;
        let output = if self.output.stream.is_some() { parse_quote!(Stream<#returned>) } else { returned.clone() };
        text::signature(arguments, &output)
    }
}

impl Argument {
    /// Where generated code can be said to be that deals with the argument.
    pub(crate) fn place(&self) -> Span {
        Span::call_site().located_at(self.items.as_ref().unwrap_or(&self.kind).span())
    }
}

impl Output {
    fn new(written: &ReturnType) -> Self {
        let written = match written {
            ReturnType::Default => parse_quote!(()),
            ReturnType::Type(_, written) => text::ungrouped(written).clone(),
        };
        let stream = OutputStream::new(&written);
        let returned = match &stream {
            Some(stream) => stream.item.clone().unwrap_or_else(|| parse_quote!(())),
            None => written.clone(),
        };
        let (value, error, hides_error) = match result_arguments(&returned).as_deref() {
            Some([value, error]) => ((*value).clone(), Some((*error).clone()), false),
            Some([value]) => ((*value).clone(), None, true),
            Some([]) => (returned.clone(), None, true),
            _ => (returned.clone(), None, false),
        };
        Self { written, returned, value, error, hides_error, stream }
    }

    /// Where generated code can be said to be that deals with the output.
    pub(crate) fn place(&self) -> Span {
        Span::call_site().located_at(self.returned.span())
    }
}

/// The type arguments of a path to something called `Result`.
fn result_arguments(written: &Type) -> Option<Vec<&Type>> {
    let Type::Path(path) = written else {
        return None;
    };
    let last = path.path.segments.last()?;
    // `<Job as Work>::Result` is an associated type, which can be anything.
    if path.qself.is_some() || last.ident != "Result" {
        return None;
    }
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return Some(Vec::new());
    };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(argument) => Some(text::ungrouped(argument)),
        _ => None,
    });
    Some(types.collect())
}

/// The same identifier at some place, marked as generated: lints are for what the user wrote.
fn located(ident: &Ident, place: Span) -> Ident {
    let mut ident = ident.clone();
    ident.set_span(Span::call_site().located_at(place));
    ident
}

#[cfg(test)]
mod tests {
    use proc_macro2::{Delimiter, Group, TokenStream};
    use quote::quote;

    use super::*;

    /// The text of a method's signature.
    fn signature(method: TokenStream) -> String {
        Method::new(parse_quote!(#method), Visibility::Inherited, &mut Report::default()).signature()
    }

    #[test]
    fn a_stream_has_one_signature_however_it_is_written() {
        let [items, output] = [quote!(Streaming<Bytes>), quote!(impl Iterator<Item = u64> + Send)]
            .map(|written| Group::new(Delimiter::None, written));
        for method in [
            quote!(
                fn f(&self, first: u64, values: Streaming<Bytes>) -> impl Iterator<Item = u64> + Send;
            ),
            quote!(
                fn f(&self, first: u64, values: Streaming<Bytes>) -> impl Stream<Item = u64> + Send;
            ),
            quote!(
                fn f(&self, _: u64, _: Streaming<Bytes>) -> impl Send + Iterator<Item = u64>;
            ),
            quote!(
                fn f(&self, a: u64, b: distribution::Streaming<Bytes>) -> impl futures::Stream<Item = u64> + Send;
            ),
            quote!(
                fn f(
                    &self,
                    a: u64,
                    b: ::distribution::Streaming<Bytes>,
                ) -> impl ::core::marker::Send + ::core::iter::Iterator<Item = u64>;
            ),
            quote!(
                fn f(&self, a: u64, b: (Streaming<(Bytes)>)) -> (impl (Iterator<Item = (u64)>) + (Send));
            ),
            quote!(
                fn f(&self, a: r#u64, b: r#Streaming<r#Bytes>) -> impl r#Stream<r#Item = r#u64> + r#Send;
            ),
            quote!(fn f(&self, a: u64, b: #items) -> #output;),
        ] {
            assert_eq!(signature(method.clone()), "fn(u64, Streaming<Bytes>) -> Stream<u64>", "{method}");
        }
    }

    #[test]
    fn the_types_of_items_are_in_the_signature_as_they_are_written() {
        for (method, expected) in [
            (
                quote!(
                    fn f(&self, values: Streaming<bytes::Bytes>);
                ), //
                "fn(Streaming<bytes::Bytes>) -> ()",
            ),
            (
                quote!(
                    async fn f(&self, values: Streaming<Result<u8, E>>) -> Result<u8, E>;
                ),
                "fn(Streaming<Result<u8, E>>) -> Result<u8, E>",
            ),
            (
                quote!(
                    fn f(&self) -> impl Stream<Item = std::result::Result<(u8,), E>> + Send;
                ),
                "fn() -> Stream<std::result::Result<(u8,), E>>",
            ),
        ] {
            assert_eq!(signature(method), expected);
        }
    }

    #[test]
    fn other_types_are_not_streams() {
        for kind in ["Streaming2<u8>", "Streaming", "<Job as Work>::Streaming<u8>", "Streaming<u8>::Item", "Stream<u8>"]
        {
            let written: Option<Type> = syn::parse_str(kind).ok();
            let method: TraitItemFn = parse_quote!(fn f(&self, value: #written) -> #written;);
            let method = Method::new(method, Visibility::Inherited, &mut Report::default());
            assert!(method.split_arguments().1.is_none() && method.output.stream.is_none(), "{kind}");
            assert_eq!(method.signature(), format!("fn({kind}) -> {kind}"));
        }
    }
}
