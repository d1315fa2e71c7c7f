//! Everything that a service may not be, each with what to write instead.
//!
//! What rustc refuses by itself, and says as well, is left to it.

mod method;
mod owned;
mod streams;
mod types;

use quote::{ToTokens, quote};
use syn::TraitItem;

use crate::model::Service;
use crate::report::Report;
pub(crate) use owned::owned;
pub(crate) use types::is_sendable;

/// Registrations carry the name, so it has a bound; no trait's name comes near.
const LONGEST_NAME: usize = 128;

/// Reports everything that keeps `service` from being called over a network.
pub(crate) fn service(service: &Service, report: &mut Report) {
    header(service, report);
    name(service, report);
    service.others.iter().for_each(|other| not_a_method(other, report));
    for (position, method) in service.methods.iter().enumerate() {
        if service.repeats(position) {
            let message = format!("there is a method `{}` already: give this one another name", method.name());
            report.refuse(&method.item.sig.ident, message);
        }
        method::check(method, report);
    }
    if service.methods.is_empty() && service.others.is_empty() {
        report.refuse(&service.item.ident, "a service without methods has nothing to call: write `fn name(&self);`");
    }
}

fn header(service: &Service, report: &mut Report) {
    let item = &service.item;
    if let Some(token) = &item.unsafety {
        report.refuse(token, "a service cannot be unsafe, its callers are elsewhere: write `trait`");
    }
    if let Some(token) = &item.auto_token {
        report.refuse(token, "a service cannot be an auto trait: write `trait`");
    }
    if !item.generics.params.is_empty() {
        report.refuse(
            &item.generics,
            "a service cannot be generic, it has one name for all nodes: write a trait for each type",
        );
    }
    if let Some(clause) = &item.generics.where_clause {
        report.refuse(clause, "a service takes no `where` clause: write supertraits, `trait Name: Supertrait`");
    }
}

fn name(service: &Service, report: &mut Report) {
    let name = service.name();
    let allowed = |character: char| character.is_ascii_alphanumeric() || "_.-:/".contains(character);
    if !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(allowed) {
        return;
    }
    let rule =
        format!("a service's name has 1 to {LONGEST_NAME} characters, each an ASCII letter, a digit or one of `_.-:/`");
    match &service.options.name {
        Some(written) => report.refuse(written, rule),
        None => report.refuse(&service.item.ident, format!("{rule}: write `#[distribution::service(name = \"..\")]`")),
    }
}

fn not_a_method(item: &TraitItem, report: &mut Report) {
    let (place, message) = match item {
        TraitItem::Type(item) => {
            let (token, name) = (&item.type_token, &item.ident);
            (quote!(#token #name), "a service cannot have associated types: write the type itself in the methods")
        }
        TraitItem::Const(item) => {
            let (token, name) = (&item.const_token, &item.ident);
            (quote!(#token #name), "a service cannot have constants: write a method, or a constant beside the trait")
        }
        TraitItem::Macro(item) => {
            let (path, bang) = (&item.mac.path, &item.mac.bang_token);
            (quote!(#path #bang), "a service cannot see what a macro makes: write its methods out")
        }
        other => (other.to_token_stream(), "a service has methods only: write `fn name(&self, ..) -> T;`"),
    };
    report.refuse(place, message);
}
