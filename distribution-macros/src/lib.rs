//! The `#[service]` macro of `distribution`, which re-exports it; use it from there.
//!
//! A trait goes through four steps: `parse` reads it and the options, `model` sorts what was read, `check` refuses what
//! cannot be called over a network, and `expand` writes the code, or, after a refusal, what keeps the user's other code
//! compiling.

mod attributes;
mod check;
mod expand;
mod model;
mod parse;
mod report;
mod streams;
mod text;

use proc_macro::TokenStream;
use quote::quote;

use crate::model::Service;
use crate::report::Report;

/// Makes a service of a trait: leaves the trait in place, and adds a server and a client for it.
///
/// ```
/// use distribution::Streaming;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, Serialize, Deserialize)]
/// # pub struct FetchError;
/// #[distribution::service]
/// pub trait Arith {
///     /// Sum of `values`.
///     fn sum(&self, values: Vec<i64>) -> i64;
///
///     /// The value of `key`.
///     async fn fetch(&self, key: String) -> Result<Vec<u8>, FetchError>;
///
///     /// How many numbers there are.
///     #[rpc(idempotent)]
///     fn count(&self, from: u64, to: u64) -> u64;
///
///     /// The squares of `values`, as they come.
///     fn squares(&self, values: Streaming<u64>) -> impl Iterator<Item = u64> + Send;
/// }
///
/// struct Calculator;
///
/// impl Arith for Calculator {
///     fn sum(&self, values: Vec<i64>) -> i64 {
///         values.iter().sum()
///     }
///     async fn fetch(&self, key: String) -> Result<Vec<u8>, FetchError> {
///         Ok(key.into_bytes())
///     }
///     fn count(&self, from: u64, to: u64) -> u64 {
///         to - from
///     }
///     fn squares(&self, values: Streaming<u64>) -> impl Iterator<Item = u64> + Send {
///         values.into_iter().map(|value| value * value)
///     }
/// }
///
/// let server = ArithServer::new(Calculator);
/// # let _ = server;
/// ```
///
/// A `fn` calculates: it runs on a thread of the node's and holds one of its slots. An `async fn` waits: it runs
/// on the node's async runtime.
///
/// A `fn` may return a stream: `impl Iterator<Item = T> + Send`, which runs on a slot, or `impl Stream<Item = T> + Send`,
/// which runs on the async runtime; callers see no difference. `T` may be a `Result`, and then each item is a value or an
/// error. The last argument of any method may be a `Streaming<T>`.
///
/// # What it expands to
///
/// ```ignore
/// pub trait Arith: Send + Sync + 'static {
///     /// Sum of `values`.
///     fn sum(&self, values: Vec<i64>) -> i64;
///
///     /// The value of `key`.
///     fn fetch(&self, key: String) -> impl Future<Output = Result<Vec<u8>, FetchError>> + Send;
///
///     /// How many numbers there are.
///     fn count(&self, from: u64, to: u64) -> u64;
///
///     /// The squares of `values`, as they come.
///     fn squares(&self, values: Streaming<u64>) -> impl Iterator<Item = u64> + Send;
/// }
///
/// /// Serves an implementation of [`Arith`] on a node.
/// pub struct ArithServer<S> { .. }
///
/// impl<S: Arith> ArithServer<S> {
///     pub fn new(implementation: S) -> Self { .. }
/// }
///
/// impl<S: Arith> distribution::Service for ArithServer<S> { .. }
///
/// /// Calls the methods of [`Arith`] on nodes.
/// #[derive(Clone, Debug)]
/// pub struct ArithClient { .. }
///
/// impl ArithClient {
///     pub fn new(caller: &(impl distribution::Caller + ?Sized)) -> Self { .. }
///
///     /// Sum of `values`.
///     pub fn sum(&self, values: Vec<i64>) -> Call<i64> { .. }
///
///     /// The value of `key`.
///     pub fn fetch(&self, key: String) -> Call<Vec<u8>, FetchError> { .. }
///
///     /// How many numbers there are.
///     pub fn count(&self, from: u64, to: u64) -> Call<u64> { .. }
///
///     /// The squares of `values`, as they come.
///     pub fn squares(&self, values: Streaming<u64>) -> StreamCall<u64> { .. }
/// }
/// ```
///
/// Implementations are plain ones, with `fn` and `async fn`. A stream of `Result<T, E>` is a `StreamCall<T, E>`. A client's
/// method has the documentation, the conditions (`#[cfg(..)]`), the allowed lints and the deprecation of the trait's.
/// Everything is as visible as the trait, and works in a function's body too.
///
/// # Options
///
/// On the trait, `#[distribution::service(..)]` takes, in any order:
///
/// - `name = ".."`: what the service is called on the wire, where it is not the trait's name. Up to 128 ASCII letters,
///   digits and `_.-:/`. Needed where two traits of one name meet on a node.
/// - `version = 2`: 1 where it is not given. Calls go only to nodes that serve the same version.
/// - `idempotent`: all methods are.
///
/// On a method, `#[rpc(..)]` takes:
///
/// - `idempotent`: the call may be run again elsewhere when the node it was sent to is lost. Without it, a call that may
///   have been started is never sent again.
///
/// # Old and new programs
///
/// Both sides must agree on a method's name, version, signature, and on the structure of all types in it; otherwise a call
/// ends as [`CallError::Incompatible`](https://docs.rs/distribution), which says what differs. Of the signature the text
/// of its types is compared as they are written, laid out alike: `Vec<i64>` is not `std::vec::Vec<i64>`, and the names of
/// arguments are free to change. Of the types all that serde knows is compared: fields and variants, their names, their
/// order and their types. The names of types are not, nor whether something is in a newtype or a `Box`.
///
/// The structure is found once for each method, when it is first served or called, by running the types' `Deserialize`
/// with made-up values. It is found whole for types that derive it (recursive and generic ones, `rename`, `skip`,
/// `default`, `transparent`, `try_from`), for what serde implements it for in the standard library, and for the types of
/// `bytes`, `chrono`, `uuid`, `url` and `num-bigint`. Written by hand, it is found as far as the made-up values lead: a
/// type that takes none of them, or decides by one value what comes next, hides something. Node and caller then log
/// once which method it is; raise `version` when you change such a type. Types that need a self-describing format
/// (`flatten`, `untagged`, `tag`, `serde_json::Value`) cannot be sent at all.
///
/// A node may serve several versions of a service at once, which is how a rolling upgrade is done: first nodes that serve
/// both, then the callers, then nodes without the old one.
///
/// # Bytes
///
/// A `Vec<u8>` within another type (`Vec<Vec<u8>>`, `Option<Vec<u8>>`, a field) is passed element by element, and such
/// a call costs 8 to 11 times one of `Bytes`. Write `bytes::Bytes` or `serde_bytes::ByteBuf` instead, or put
/// `#[serde(with = "serde_bytes")]` on the field. As a whole argument or answer, `Vec<u8>` is fast by itself.
///
/// # What a service may not be
///
/// Each of these is an error that says what to write instead:
///
/// - receivers other than `&self`: an implementation answers many calls at once, so what changes is in a `Mutex` or an
///   atomic;
/// - borrowed arguments, answers and items, lifetimes and `Self` in them, and more than 16 arguments;
/// - `impl Trait`, except for a `fn` that returns `impl Iterator<Item = T> + Send` or `impl Stream<Item = T> + Send`, with
///   no other bounds;
/// - a `Streaming` that is not the last argument by itself;
/// - generic traits and methods, `where` clauses, associated types and constants, default bodies, macros in the trait,
///   `unsafe`, `const` and `extern`;
/// - a method called `new`, which is the client's constructor;
/// - a `Result` with one type argument, such as `io::Result<T>`: the macro sees no types, only their names, and has to
///   see the error's. For the same reason `Streaming` cannot have another name.
///
/// Argument types, values, errors and items implement serde's `Serialize` and `DeserializeOwned`, and are `'static`. The
/// items of a `Streaming` are `Send` as well.
#[proc_macro_attribute]
pub fn service(options: TokenStream, item: TokenStream) -> TokenStream {
    expanded(options.into(), &item.into()).into()
}

fn expanded(options: proc_macro2::TokenStream, item: &proc_macro2::TokenStream) -> proc_macro2::TokenStream {
    let mut report = Report::default();
    let options = parse::service_options(options, &mut report);
    let service = match parse::service_trait(item.clone()) {
        Ok(item) => Service::new(item, options, &mut report),
        Err(error) => {
            report.add(error);
            let errors = report.compile_errors();
            return quote!(#errors #item);
        }
    };
    check::service(&service, &mut report);
    match report.compile_errors() {
        None => expand::service(&service),
        Some(errors) => expand::fallback(&service, &errors),
    }
}
