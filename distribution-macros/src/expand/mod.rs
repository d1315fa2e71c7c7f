//! Writes the code for a service. Nothing in here can fail, because `check` has refused what could.
//!
//! Generated code names everything by an absolute path below `::core`, `::std` and `::distribution`, uses no method-call
//! syntax, and declares no item but the two types in the user's scope. So the user's names cannot interfere, and a service
//! works in a module, in a function's body and in the output of another macro.

mod client;
mod fallback;
mod item;
mod names;
mod server;

use proc_macro2::TokenStream;
use quote::quote;

use self::item::{trait_item, trait_method};
use crate::model::Service;
pub(crate) use fallback::fallback;

/// The trait and the two types, of a service that passed every check.
pub(crate) fn service(service: &Service) -> TokenStream {
    let item = trait_item(service, service.methods.iter().map(|method| trait_method(method).into()));
    let server = server::expand(service);
    let client = client::expand(service);
    quote!(#item #server #client)
}
