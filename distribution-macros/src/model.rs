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
}

/// What a method returns.
pub(crate) struct Output {
    /// The whole return type, `()` if none is written.
    pub(crate) written: Type,
    /// What a successful call gives.
    pub(crate) value: Type,
    /// The method's own error, if it returns a `Result`.
    pub(crate) error: Option<Type>,
    /// Whether it returns a `Result` whose error type is hidden behind an alias.
    pub(crate) hides_error: bool,
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
            arguments.push(Argument {
                attributes: argument.attrs.clone(),
                pattern: (*argument.pat).clone(),
                name,
                kind,
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

    pub(crate) fn is_async(&self) -> bool {
        self.item.sig.asyncness.is_some()
    }

    pub(crate) fn signature(&self) -> String {
        text::signature(self.arguments.iter().map(|argument| &argument.kind), &self.output.written)
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
        let (value, error, hides_error) = match result_arguments(&written).as_deref() {
            Some([value, error]) => ((*value).clone(), Some((*error).clone()), false),
            Some([value]) => ((*value).clone(), None, true),
            Some([]) => (written.clone(), None, true),
            _ => (written.clone(), None, false),
        };
        Self { written, value, error, hides_error }
    }

    /// Where generated code can be said to be that deals with the output.
    pub(crate) fn place(&self) -> Span {
        Span::call_site().located_at(self.written.span())
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
