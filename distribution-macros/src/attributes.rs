//! Which attributes of the user's trait are repeated on what is generated from it.
//!
//! An attribute may hide in a `#[cfg_attr(condition, ..)]`; there each is judged by itself, so that
//! `#[cfg_attr(test, doc = "..", automock)]` hands on its documentation and leaves `automock` where it is.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::quote;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Attribute, Meta, Path, Token, parse_quote};

/// For everything generated: only whether it exists.
pub(crate) fn conditions(attributes: &[Attribute]) -> Vec<Attribute> {
    carried(attributes, &|meta| meta.path().is_ident("cfg").then(|| meta.clone()))
}

/// For the `impl`s generated from a trait.
pub(crate) fn for_implementation(attributes: &[Attribute]) -> Vec<Attribute> {
    carried(attributes, &|meta| condition_or_lint(meta))
}

/// For the types generated from a trait, which have documentation of their own.
pub(crate) fn for_type(attributes: &[Attribute]) -> Vec<Attribute> {
    carried(attributes, &|meta| {
        let kept = meta.path().is_ident("deprecated") || is_doc_hidden(meta);
        condition_or_lint(meta).or_else(|| kept.then(|| meta.clone()))
    })
}

/// For the client's method. `must_use` is left out, because a `Call` is that already.
pub(crate) fn for_client_method(attributes: &[Attribute]) -> Vec<Attribute> {
    carried(attributes, &|meta| {
        let kept = meta.path().is_ident("deprecated") || meta.path().is_ident("doc");
        condition_or_lint(meta).or_else(|| kept.then(|| meta.clone()))
    })
}

/// Whether there is documentation under every condition.
pub(crate) fn are_documented(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("doc") && matches!(attribute.meta, Meta::NameValue(_)))
}

/// Whether `attribute` is `#[name ..]`, or is so under some condition.
pub(crate) fn mentions(attribute: &Attribute, name: &str) -> bool {
    meta_mentions(&attribute.meta, name)
}

fn meta_mentions(meta: &Meta, name: &str) -> bool {
    meta.path().is_ident(name)
        || conditional(meta).is_some_and(|(_, inner)| inner.iter().any(|meta| meta_mentions(meta, name)))
}

fn condition_or_lint(meta: &Meta) -> Option<Meta> {
    if meta.path().is_ident("cfg") || meta.path().is_ident("allow") {
        return Some(meta.clone());
    }
    // What is expected of the trait need not happen in the generated code as well.
    if let Meta::List(list) = meta {
        if list.path.is_ident("expect") {
            let mut list = list.clone();
            list.path = Path::from(syn::Ident::new("allow", Span::call_site()));
            return Some(Meta::List(list));
        }
    }
    None
}

fn is_doc_hidden(meta: &Meta) -> bool {
    match meta {
        Meta::List(list) => list.path.is_ident("doc") && list.tokens.to_string() == "hidden",
        _ => false,
    }
}

fn carried(attributes: &[Attribute], choose: &dyn Fn(&Meta) -> Option<Meta>) -> Vec<Attribute> {
    attributes
        .iter()
        .filter_map(|attribute| chosen(&attribute.meta, choose))
        .map(|meta| parse_quote!(#[#meta]))
        .collect()
}

fn chosen(meta: &Meta, choose: &dyn Fn(&Meta) -> Option<Meta>) -> Option<Meta> {
    let Some((condition, inner)) = conditional(meta) else {
        return choose(meta);
    };
    let inner: Vec<Meta> = inner.iter().filter_map(|meta| chosen(meta, choose)).collect();
    (!inner.is_empty()).then(|| parse_quote!(cfg_attr(#condition, #(#inner),*)))
}

/// The condition of a `cfg_attr` and the attributes it stands before.
fn conditional(meta: &Meta) -> Option<(TokenStream, Vec<Meta>)> {
    let Meta::List(list) = meta else {
        return None;
    };
    if !list.path.is_ident("cfg_attr") {
        return None;
    }
    // The condition is taken as tokens: `true` and `false` are conditions, and no `Meta`.
    let parser = |input: ParseStream<'_>| {
        let mut condition = TokenStream::new();
        while !input.is_empty() && !input.peek(Token![,]) {
            let token: TokenTree = input.parse()?;
            condition.extend(quote!(#token));
        }
        input.parse::<Token![,]>()?;
        let inner = Punctuated::<Meta, Token![,]>::parse_terminated(input)?;
        Ok((condition, inner.into_iter().collect()))
    };
    parser.parse2(list.tokens.clone()).ok()
}

#[cfg(test)]
mod tests {
    use quote::ToTokens;

    use super::*;

    fn printed(attributes: &[Attribute]) -> Vec<String> {
        attributes.iter().map(|attribute| attribute.to_token_stream().to_string()).collect()
    }

    #[test]
    fn a_condition_hands_on_only_what_is_carried_without_one() {
        let attributes: Vec<Attribute> =
            vec![parse_quote!(#[cfg_attr(all(test, true), automock, doc = "text", cfg_attr(unix, cfg(test)))])];
        assert_eq!(
            printed(&for_client_method(&attributes)),
            printed(&[parse_quote!(#[cfg_attr(all(test, true), doc = "text", cfg_attr(unix, cfg(test)))])]),
        );
        assert_eq!(
            printed(&conditions(&attributes)),
            printed(&[parse_quote!(#[cfg_attr(all(test, true), cfg_attr(unix, cfg(test)))])]),
        );
        assert!(mentions(&attributes[0], "automock"));
        assert!(!mentions(&attributes[0], "rpc"));
    }

    #[test]
    fn an_expected_lint_is_only_allowed_in_generated_code() {
        let attributes: Vec<Attribute> = vec![parse_quote!(#[expect(dead_code)]), parse_quote!(#[deny(unused)])];
        assert_eq!(printed(&for_implementation(&attributes)), printed(&[parse_quote!(#[allow(dead_code)])]));
    }
}
