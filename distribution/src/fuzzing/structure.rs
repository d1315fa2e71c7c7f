//! The structure of a type, as methods' ids cover it.

use serde::de::DeserializeOwned;

use crate::service::structure::Structure;

/// What is found out about a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Equal for types whose bytes mean the same.
    pub hash: u64,
    /// The type itself, as it stands in an error.
    pub text: String,
    /// The named types in it, with what they are.
    pub types: Vec<(String, String)>,
    /// Whether nothing in it is hidden.
    pub whole: bool,
}

/// Finds the structure of `T`, as of a method that returns it.
pub fn structure<T: DeserializeOwned>() -> Seen {
    let structure = Structure::plain::<(), T>();
    let mut types: Vec<(String, String)> =
        structure.definitions().iter().map(|definition| (definition.name.clone(), definition.text.clone())).collect();
    let (_, text) = types.remove(0);
    Seen {
        hash: structure.hash(),
        text: text.trim_start_matches("fn() -> ").to_owned(),
        types,
        whole: structure.partly_seen().is_empty(),
    }
}
