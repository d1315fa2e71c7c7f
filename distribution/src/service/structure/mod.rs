//! What a method's types look like to serde: the shape of their bytes, with the names of types, fields and variants.
//!
//! A method's id covers it, on both sides, so that a call never reaches a node whose types have changed. It is found
//! when a method is first served or called, by running the types' `Deserialize` against a deserializer that notes what
//! it is asked for. How far that sees is in the table of `tests/tests/structure.rs`.
//!
//! | file | what it does |
//! |---|---|
//! | `shape.rs` | the table of nodes that a structure is |
//! | `search.rs`, `pending.rs` | runs a type until all of it was seen; what was not seen yet |
//! | `recorder.rs` | what is known of the types |
//! | `deserializer.rs`, `stop.rs` | answers the type's questions; the error that ends a run |
//! | `probes.rs` | the values it answers with |
//! | `hash.rs` | the hash that both sides must have alike |
//! | `text.rs` | the text for people and the registration |

mod deserializer;
mod hash;
mod pending;
mod probes;
mod recorder;
mod search;
mod shape;
mod stop;
mod text;

use serde::de::DeserializeOwned;

use self::{deserializer::record, recorder::Recorder, shape::Shape};
use crate::wire::handshake::Definition;

/// Arguments whose structure can be found.
pub trait RecordArguments {
    /// Records them, one by one.
    fn record(recording: &mut Recording<'_>);
}

/// The structure of a method's arguments, value and error.
#[derive(Clone, Debug)]
pub(crate) struct Structure {
    hash: u64,
    definitions: Vec<Definition>,
    partly: Vec<String>,
}

impl Structure {
    /// Of a method without an error of its own.
    pub(crate) fn plain<A: RecordArguments, T: DeserializeOwned>() -> Self {
        let mut recorder = Recorder::new();
        A::record(&mut Recording(&mut recorder));
        record::<T>(&mut recorder);
        Self::new(recorder, false)
    }

    /// Of a method that returns a `Result`.
    pub(crate) fn fallible<A: RecordArguments, T: DeserializeOwned, E: DeserializeOwned>() -> Self {
        let mut recorder = Recorder::new();
        A::record(&mut Recording(&mut recorder));
        record::<T>(&mut recorder);
        record::<E>(&mut recorder);
        Self::new(recorder, true)
    }

    /// Of a method of which nothing was recorded.
    pub(crate) fn unknown() -> Self {
        Self { hash: 0, definitions: Vec::new(), partly: Vec::new() }
    }

    fn new(recorder: Recorder, fallible: bool) -> Self {
        let (shapes, unsure) = recorder.finish();
        let hashes = hash::hashes(&shapes);
        // A method that can fail is another one than one with the error as last argument and no error.
        let hash = crate::hash::hash_on(hashes[0], &[u8::from(fallible)]);
        let definitions = text::definitions(&shapes, &hashes, fallible);
        Self { hash, definitions, partly: partly(&shapes, &unsure, fallible) }
    }

    /// Equal on both sides, or a call would be misread.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// One for each named type; the first is nameless and says what goes in and comes out.
    pub(crate) fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// Of which types something may be hidden, where there are any: a change of that is not noticed.
    pub(crate) fn partly_seen(&self) -> &[String] {
        &self.partly
    }
}

/// Takes the arguments of a method, one by one.
#[derive(Debug)]
pub struct Recording<'r>(&'r mut Recorder);

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recording<'_> {
    /// Records the next argument.
    pub(crate) fn argument<T: DeserializeOwned>(&mut self) {
        record::<T>(self.0);
    }
}

/// Which types are seen in part, and where they are.
fn partly(shapes: &[Shape], unsure: &[bool], fallible: bool) -> Vec<String> {
    let parts = &shapes[0].parts;
    let arguments = parts.len() - 1 - usize::from(fallible);
    let mut found = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let mut seen = vec![false; shapes.len()];
        let mut open: Vec<(usize, &str)> = part.iter().map(|part| (*part, "")).collect();
        let mut hidden: Option<&str> = if part.is_none() || unsure[at] { Some("") } else { None };
        while let Some((index, within)) = open.pop() {
            if std::mem::replace(&mut seen[index], true) {
                continue;
            }
            let shape = &shapes[index];
            let within = if shape.name.is_empty() { within } else { shape.name };
            if !shape.is_whole() && hidden.is_none_or(str::is_empty) {
                hidden = Some(within);
            }
            open.extend(shape.parts.iter().flatten().map(|part| (*part, within)));
        }
        if let Some(name) = hidden {
            let place = match at {
                at if at < arguments => format!("argument {}", at + 1),
                at if at == arguments => "the value".to_owned(),
                _ => "the error".to_owned(),
            };
            found.push(if name.is_empty() { place } else { format!("`{}` in {place}", name.escape_debug()) });
        }
    }
    found
}
