//! What a method may not be: its qualifiers, its receiver, its arguments, what it returns.

use syn::{Attribute, Pat, Receiver, Type, Visibility, parse_quote};

use super::streams;
use super::types::{self, Place};
use crate::attributes;
use crate::model::{Argument, Method};
use crate::report::Report;
use crate::streams::AnyStream;

/// serde has tuples up to this size, and the arguments of a call are one.
const MOST_ARGUMENTS: usize = 16;

/// Reports everything that keeps `method` from being called over a network.
pub(super) fn check(method: &Method, report: &mut Report) {
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
    for (at, argument) in method.arguments.iter().enumerate() {
        self::argument(argument, method, &method.arguments[at + 1..], report);
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
    output(method, report);
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

fn argument(argument: &Argument, method: &Method, behind: &[Argument], report: &mut Report) {
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
    let Some(items) = &argument.items else {
        return types::check(&argument.kind, Place::Argument, report);
    };
    types::check(items, Place::Item, report);
    if behind.iter().any(|argument| argument.items.is_some()) {
        let instead = "a method takes one stream of arguments: write one `Streaming` with the items of both";
        report.refuse(&argument.kind, instead);
    } else if !behind.is_empty() {
        report.refuse(&argument.kind, "a stream of arguments comes last: move it behind the others");
    }
}

/// Both sides agree on one signature, so there is none that depends on how a side was compiled.
fn no_condition(attributes: &[Attribute], report: &mut Report) {
    for attribute in attributes.iter().filter(|attribute| attributes::mentions(attribute, "cfg")) {
        report
            .refuse(attribute, "an argument cannot depend on `cfg`: write two methods, and put `#[cfg(..)]` on those");
    }
}

fn output(method: &Method, report: &mut Report) {
    let output = &method.output;
    if output.hides_error {
        report.refuse(
            &output.returned,
            "the error type of the alias cannot be seen: write both types, as in `Result<T, E>`",
        );
    }
    if let Some(stream) = &output.stream {
        streams::check(stream, &output.written, method.item.sig.asyncness, report);
        types::check(&output.returned, Place::Item, report);
    } else if let (Some(AnyStream { kind, item }), Some(error)) = (AnyStream::new(&output.value), &output.error) {
        let item: Option<Type> = item.map(|item| parse_quote!(Result<#item, #error>));
        let instead = streams::instead(kind, item.as_ref());
        report.refuse(&output.value, format!("a stream is returned by itself: write `fn .. -> {instead}`"));
        types::check(error, Place::Output, report);
    } else {
        types::check(&output.written, Place::Output, report);
    }
}
