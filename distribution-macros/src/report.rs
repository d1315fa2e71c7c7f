//! Gathers what is wrong with a service, so that the user sees all of it at once.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::ToTokens;

/// Every refusal so far, in the order in which they were found.
#[derive(Default)]
pub(crate) struct Report {
    errors: Option<syn::Error>,
}

impl Report {
    /// Refuses what `tokens` spell; `message` says what to write instead.
    pub(crate) fn refuse(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.add(syn::Error::new_spanned(tokens, message));
    }

    /// Adds an error that already knows its place.
    pub(crate) fn add(&mut self, error: syn::Error) {
        match &mut self.errors {
            Some(errors) => errors.combine(error),
            None => self.errors = Some(error),
        }
    }

    /// One `compile_error!` for each refusal, or `None` if there was nothing to refuse.
    pub(crate) fn compile_errors(&self) -> Option<TokenStream> {
        self.errors.as_ref().map(syn::Error::to_compile_error)
    }
}
