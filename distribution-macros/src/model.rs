//! A service as the macro sees it: what was written, sorted by what it is for.
//!
//! A model can be built from any trait; whether it is one that can be called over a network is `check`'s to say.

use proc_macro2::{Ident, Span};
use quote::format_ident;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, FnArg, GenericArgument, ItemTrait, Pat, PathArguments, PathSegment, Receiver, ReturnType, TraitItem,
    TraitItemFn, Type, TypeParamBound, Visibility, parse_quote,
};

use crate::attributes;
use crate::parse::{self, ServiceOptions};
use crate::report::Report;
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
    /// What a successful call gives, or each item of a stream that is no error.
    pub(crate) value: Type,
    /// The method's own error, if it returns a `Result`.
    pub(crate) error: Option<Type>,
    /// Whether it returns a `Result` whose error type is hidden behind an alias.
    pub(crate) hides_error: bool,
    /// What it returns if that is a stream of items.
    pub(crate) stream: Option<OutputStream>,
}

/// A stream that a method returns.
pub(crate) struct OutputStream {
    pub(crate) kind: StreamKind,
    /// The type of the items as written.
    pub(crate) item: Type,
    /// What is wrong with how it is written, and what to write.
    pub(crate) problem: Option<String>,
}

/// How a stream that a method returns makes its items.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamKind {
    Iterator,
    Stream,
}

impl StreamKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Iterator => "Iterator",
            Self::Stream => "Stream",
        }
    }
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

    pub(crate) fn signature(&self) -> String {
        // Both sides agree on streams however they are written: callers need not know how an implementation runs.
        let kinds: Vec<Type> = self
            .arguments
            .iter()
            .map(|argument| match &argument.items {
                Some(items) => parse_quote!(Streaming<#items>),
                None => argument.kind.clone(),
            })
            .collect();
        let output = match &self.output.stream {
            Some(OutputStream { item, .. }) => parse_quote!(Stream<#item>),
            None => self.output.written.clone(),
        };
        text::signature(kinds.iter(), &output)
    }
}

impl Argument {
    /// Where generated code can be said to be that deals with the argument.
    pub(crate) fn place(&self) -> Span {
        Span::call_site().located_at(self.kind.span())
    }
}

impl Output {
    fn new(written: &ReturnType) -> Self {
        let written = match written {
            ReturnType::Default => parse_quote!(()),
            ReturnType::Type(_, written) => text::ungrouped(written).clone(),
        };
        let stream = OutputStream::new(&written);
        let returned = stream.as_ref().map_or(&written, |stream| &stream.item);
        let (value, error, hides_error) = match result_arguments(returned).as_deref() {
            Some([value, error]) => ((*value).clone(), Some((*error).clone()), false),
            Some([value]) => ((*value).clone(), None, true),
            Some([]) => (returned.clone(), None, true),
            _ => (returned.clone(), None, false),
        };
        Self { written, value, error, hides_error, stream }
    }

    /// Where generated code can be said to be that deals with the output.
    pub(crate) fn place(&self) -> Span {
        Span::call_site().located_at(self.written.span())
    }
}

impl OutputStream {
    /// `None` if it is none.
    fn new(written: &Type) -> Option<Self> {
        let Type::ImplTrait(written) = written else {
            return None;
        };
        let named = |bound: &TypeParamBound| match bound {
            TypeParamBound::Trait(bound) => bound.path.segments.last().cloned(),
            _ => None,
        };
        let kind_of = |segment: &PathSegment| match segment.ident.to_string().as_str() {
            "Stream" => Some(StreamKind::Stream),
            // Others are iterators too, and are told what to write.
            name if name.ends_with("Iterator") => Some(StreamKind::Iterator),
            _ => None,
        };
        let mut segments = written.bounds.iter().map(named);
        let (kind, segment) =
            segments.find_map(|segment| segment.and_then(|segment| Some((kind_of(&segment)?, segment))))?;
        let item = item_of(&segment);
        let name = kind.name();
        let shown = item.as_ref().map_or_else(|| "T".to_owned(), text::of_type);
        let instead = format!("write `impl {name}<Item = {shown}> + Send`");
        let is_send = |bound: &TypeParamBound| named(bound).is_some_and(|segment| segment.ident == "Send");
        let problem = if item.is_none() {
            Some(format!("both sides must know the type of the items: {instead}"))
        } else if !written.bounds.iter().any(is_send) {
            Some(format!("the items are made on several threads: {instead}"))
        } else if written.bounds.len() > 2 || segment.ident != name {
            Some(format!("a stream that a method returns has no other bounds: {instead}"))
        } else {
            None
        };
        Some(Self { kind, item: item.unwrap_or_else(|| parse_quote!(())), problem })
    }
}

/// The `T` of an `Iterator<Item = T>`.
fn item_of(segment: &PathSegment) -> Option<Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(binding) if binding.ident == "Item" => Some(text::ungrouped(&binding.ty).clone()),
        _ => None,
    })
}

/// The `T` of a `Streaming<T>`.
fn streaming_items(written: &Type) -> Option<&Type> {
    let Type::Path(path) = written else {
        return None;
    };
    let last = path.path.segments.last().filter(|segment| segment.ident == "Streaming")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.iter().collect::<Vec<_>>().as_slice() {
        [GenericArgument::Type(items)] => Some(text::ungrouped(items)),
        _ => None,
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
