//! What the instruments are made of. README.md says what each shows, and when to run it.

#![allow(rustdoc::private_intra_doc_links, reason = "its documentation is read beside its source")]

pub mod chaos;
pub mod figures;
pub mod memory;
pub mod network;
pub mod processor;
pub mod program;
pub mod soak;
pub mod storm;
