//! Everything that a service may not be, each with what to write instead.
//!
//! What rustc refuses by itself, and says as well, is left to it.

mod types;

use quote::{ToTokens, quote};
use syn::{Attribute, Pat, Receiver, TraitItem, Visibility};

use crate::attributes;
use crate::model::{Argument, Method, Output, Service};
use crate::report::Report;
pub(crate) use types::{Place, is_sendable, owned};

/// serde has tuples up to this size, and the arguments of a call are one.
const MOST_ARGUMENTS: usize = 16;
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
        self::method(method, report);
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

fn method(method: &Method, report: &mut Report) {
    qualifiers(method, report);
    let signature = &method.item.sig;
    if method.name() == "new" {
        report.refuse(&signature.ident, "the client has a constructor `new` already: give the method another name");
    }
    if !signature.generics.params.is_empty() {
        report.refuse(
            &signature.generics,
            "a method cannot be generic, a node must know what to decode: write a method for each type",
        );
    }
    match method.receiver() {
        Some(receiver) => self::receiver(receiver, method, report),
        None => no_receiver(method, report),
    }
    for argument in &method.arguments {
        self::argument(argument, method, report);
    }
    if let Some(argument) = method.arguments.get(MOST_ARGUMENTS) {
        report.refuse(
            &argument.pattern,
            format!("a method takes at most {MOST_ARGUMENTS} arguments: group them in a struct"),
        );
    }
    if let Some(variadic) = &signature.variadic {
        report.refuse(variadic, "a method cannot be variadic: write a `Vec<T>`");
    }
    output(&method.output, report);
    if let Some(clause) = &signature.generics.where_clause {
        report.refuse(clause, "a method takes no `where` clause: leave it out");
    }
    if let Some(body) = &method.item.default {
        report.refuse(body, "a method cannot have a default body: write `;` here, and the body in the `impl`");
    }
}

fn qualifiers(method: &Method, report: &mut Report) {
    let signature = &method.item.sig;
    if !matches!(method.visibility, Visibility::Inherited) {
        report.refuse(&method.visibility, "a method is as visible as its trait: leave the visibility out");
    }
    if let Some(token) = &signature.constness {
        report.refuse(token, "a method cannot be `const`, it runs on a node: write `fn`");
    }
    if let Some(token) = &signature.unsafety {
        report.refuse(token, "a method cannot be unsafe, its callers are elsewhere: write `fn`");
    }
    if let Some(token) = &signature.abi {
        report.refuse(token, "a method has no other ABI than Rust's: write `fn`");
    }
}

fn receiver(receiver: &Receiver, method: &Method, report: &mut Report) {
    no_condition(&receiver.attrs, report);
    let place = Receiver { attrs: Vec::new(), ..receiver.clone() };
    match (&receiver.colon_token, &receiver.reference, &receiver.mutability) {
        (None, Some((_, None)), None) => {}
        (None, Some((_, None)), Some(_)) => {
            report.refuse(place, "calls run at the same time: write `&self`, and use a `Mutex` or atomics inside");
        }
        (None, Some((_, Some(lifetime))), None) => {
            // A lifetime of the method's own is refused where it is declared.
            if !method.item.sig.generics.lifetimes().any(|declared| declared.lifetime == *lifetime) {
                report.refuse(lifetime, "leave the lifetime out: write `&self`");
            }
        }
        _ => report.refuse(place, "one implementation answers all calls: write `&self`"),
    }
}

fn no_receiver(method: &Method, report: &mut Report) {
    let name = &method.item.sig.ident;
    let rest = if method.arguments.is_empty() { "" } else { ", .." };
    report.refuse(name, format!("a method is called on an implementation: write `fn {name}(&self{rest})`"));
}

fn argument(argument: &Argument, method: &Method, report: &mut Report) {
    no_condition(&argument.attributes, report);
    match &argument.pattern {
        Pat::Wild(_) => {}
        Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => {
            // Beside a body it has a meaning, and the body is refused.
            if let (Some(token), None) = (&pattern.mutability, &method.item.default) {
                report
                    .refuse(token, "a trait's arguments take no `mut`: leave it out here, and write it in the `impl`");
            }
        }
        pattern => {
            report.refuse(pattern, "an argument needs one name: write `name: Type`, and take it apart in the `impl`");
        }
    }
    types::check(&argument.kind, Place::Argument, report);
}

/// Both sides agree on one signature, so there is none that depends on how a side was compiled.
fn no_condition(attributes: &[Attribute], report: &mut Report) {
    for attribute in attributes.iter().filter(|attribute| attributes::mentions(attribute, "cfg")) {
        report
            .refuse(attribute, "an argument cannot depend on `cfg`: write two methods, and put `#[cfg(..)]` on those");
    }
}

fn output(output: &Output, report: &mut Report) {
    if output.hides_error {
        report.refuse(
            &output.written,
            "the error type of the alias cannot be seen: write both types, as in `Result<T, E>`",
        );
    }
    types::check(&output.written, Place::Output, report);
}
