//! Reads the options of `#[distribution::service(..)]` and `#[rpc(..)]`, and the item they stand on.
//!
//! What cannot be read goes to the report and counts as not written, so that the rest can still be looked at.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, Item, ItemTrait, Lit, LitStr, Meta, MetaList, Token, TraitItem, TraitItemFn, Visibility};

use crate::attributes;
use crate::report::Report;

const SERVICE_OPTIONS: &str = "`#[distribution::service]` knows `name = \"..\"`, `version = 2` and `idempotent`";
const RPC_OPTIONS: &str = "`#[rpc]` knows `idempotent`";

/// What `#[distribution::service(..)]` says.
#[derive(Default)]
pub(crate) struct ServiceOptions {
    pub(crate) name: Option<LitStr>,
    pub(crate) version: Option<u32>,
    pub(crate) idempotent: bool,
}

/// What the `#[rpc(..)]` of one method says.
#[derive(Default)]
pub(crate) struct MethodOptions {
    pub(crate) idempotent: bool,
}

/// A function of a trait, with a visibility that it should not have.
pub(crate) struct TraitFunction {
    pub(crate) visibility: Visibility,
    pub(crate) item: TraitItemFn,
}

/// Reads the tokens between the parentheses of `#[distribution::service(..)]`.
pub(crate) fn service_options(tokens: TokenStream, report: &mut Report) -> ServiceOptions {
    let mut options = ServiceOptions::default();
    let mut seen = Vec::new();
    for option in list(tokens, SERVICE_OPTIONS, report) {
        match once(&option, &mut seen, report).as_str() {
            "name" => options.name = text(&option, report),
            "version" => options.version = number(&option, report),
            "idempotent" => options.idempotent = flag(&option, report),
            "" => {}
            name => report.refuse(option.path(), format!("unknown option `{name}`: {SERVICE_OPTIONS}")),
        }
    }
    options
}

/// Takes the `#[rpc(..)]` attributes of a method out of `attributes`, and reads them.
pub(crate) fn method_options(attributes: &mut Vec<Attribute>, report: &mut Report) -> MethodOptions {
    let mut options = MethodOptions::default();
    let mut seen = Vec::new();
    for attribute in take_rpc(attributes) {
        let Some(list_of_options) = rpc_list(&attribute, report) else {
            continue;
        };
        for option in list(list_of_options.tokens.clone(), RPC_OPTIONS, report) {
            match once(&option, &mut seen, report).as_str() {
                "idempotent" => options.idempotent = flag(&option, report),
                "" => {}
                name => report.refuse(option.path(), format!("unknown option `{name}`: {RPC_OPTIONS}")),
            }
        }
    }
    options
}

/// Takes `#[rpc(..)]` off the trait itself, where it has no place.
pub(crate) fn no_options(attributes: &mut Vec<Attribute>, report: &mut Report) {
    for attribute in take_rpc(attributes) {
        report.refuse(
            attribute,
            "`#[rpc(..)]` goes on a method: for the whole service write `#[distribution::service(..)]`",
        );
    }
}

/// Reads the item that the macro stands on.
pub(crate) fn service_trait(tokens: TokenStream) -> syn::Result<ItemTrait> {
    let (what, place) = match syn::parse2(tokens)? {
        Item::Trait(item) => return Ok(item),
        Item::Impl(item) => {
            let message = "`#[distribution::service]` goes on a trait: put it on the trait that is implemented here";
            return Err(syn::Error::new_spanned(item.impl_token, message));
        }
        Item::Struct(item) => ("a struct", between(item.struct_token, item.ident)),
        Item::Enum(item) => ("an enum", between(item.enum_token, item.ident)),
        Item::Union(item) => ("a union", between(item.union_token, item.ident)),
        Item::Fn(item) => ("a function", between(item.sig.fn_token, item.sig.ident)),
        Item::Mod(item) => ("a module", between(item.mod_token, item.ident)),
        Item::TraitAlias(item) => ("a trait alias", between(item.trait_token, item.ident)),
        other => ("something else", other.into_token_stream()),
    };
    let message = format!(
        "`#[distribution::service]` goes on a trait, and this is {what}: put it on a trait whose methods are the calls"
    );
    Err(syn::Error::new_spanned(place, message))
}

/// The function in `item`, or `item` itself if it is something else.
pub(crate) fn trait_function(item: TraitItem) -> Result<TraitFunction, Box<TraitItem>> {
    match item {
        TraitItem::Fn(item) => Ok(TraitFunction { visibility: Visibility::Inherited, item }),
        // This is what syn makes of `pub fn`, which only rustc knows to be wrong.
        TraitItem::Verbatim(tokens) => syn::parse2(tokens.clone()).map_err(|_| Box::new(TraitItem::Verbatim(tokens))),
        other => Err(Box::new(other)),
    }
}

impl Parse for TraitFunction {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let mut item: TraitItemFn = input.parse()?;
        item.attrs = attributes;
        Ok(Self { visibility, item })
    }
}

/// Removes and returns the attributes that are `#[rpc]` under any condition.
fn take_rpc(attributes: &mut Vec<Attribute>) -> Vec<Attribute> {
    let all = std::mem::take(attributes).into_iter();
    let (taken, kept) = all.partition(|attribute| attributes::mentions(attribute, "rpc"));
    *attributes = kept;
    taken
}

fn rpc_list<'a>(attribute: &'a Attribute, report: &mut Report) -> Option<&'a MetaList> {
    match &attribute.meta {
        Meta::List(list) if !list.path.is_ident("rpc") => {
            report.refuse(&list.path, "`#[rpc(..)]` cannot depend on a condition: write it by itself");
            None
        }
        Meta::List(list) if !list.tokens.is_empty() => Some(list),
        _ => {
            report.refuse(attribute, format!("nothing is set here: {RPC_OPTIONS}, as in `#[rpc(idempotent)]`"));
            None
        }
    }
}

fn list(tokens: TokenStream, known: &str, report: &mut Report) -> Vec<Meta> {
    match Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens) {
        Ok(options) => options.into_iter().collect(),
        Err(error) => {
            report.add(syn::Error::new(error.span(), format!("{error}: {known}")));
            Vec::new()
        }
    }
}

/// The name of an option, or nothing if it was there before.
fn once(option: &Meta, seen: &mut Vec<String>, report: &mut Report) -> String {
    let name = option.path().to_token_stream().to_string();
    if seen.contains(&name) {
        report.refuse(option.path(), format!("`{name}` is set twice: keep one"));
        return String::new();
    }
    seen.push(name.clone());
    name
}

fn flag(option: &Meta, report: &mut Report) -> bool {
    let written = matches!(option, Meta::Path(_));
    if !written {
        report.refuse(option, "`idempotent` takes no value: write `idempotent`, or leave it out");
    }
    written
}

fn text(option: &Meta, report: &mut Report) -> Option<LitStr> {
    if let Some(Lit::Str(text)) = literal(option) {
        return Some(text.clone());
    }
    report.refuse(value_or_name(option), "`name` takes a string: write `name = \"..\"`");
    None
}

fn number(option: &Meta, report: &mut Report) -> Option<u32> {
    if let Some(Lit::Int(number)) = literal(option) {
        if let Ok(number) = number.base10_parse() {
            return Some(number);
        }
    }
    report
        .refuse(value_or_name(option), format!("`version` takes a number from 0 to {}: write `version = 2`", u32::MAX));
    None
}

fn literal(option: &Meta) -> Option<&Lit> {
    let Meta::NameValue(option) = option else {
        return None;
    };
    let mut value = &option.value;
    // A `$version:literal` of `macro_rules!` comes in an invisible group.
    while let Expr::Group(group) = value {
        value = &group.expr;
    }
    match value {
        Expr::Lit(literal) => Some(&literal.lit),
        _ => None,
    }
}

fn value_or_name(option: &Meta) -> TokenStream {
    match option {
        Meta::NameValue(option) => option.value.to_token_stream(),
        option => option.to_token_stream(),
    }
}

fn between(first: impl ToTokens, last: impl ToTokens) -> TokenStream {
    quote!(#first #last)
}
