//! Files of secrets and of trust: opened once, and used only if nobody but this process's user and root could have put
//! them there or written to them.
//!
//! A file is checked after it was opened, and what was checked is what is read. `unix.rs` finds the file. Other systems have no
//! owners and modes that could be checked; there a file must be a regular one and not too large.

mod access;
mod error;
#[cfg(not(unix))]
mod other;
#[cfg(all(test, unix))]
mod tests;
#[cfg(unix)]
mod unix;

pub(crate) use self::{
    access::{Contents, create, exists, read, replace},
    error::FileError,
};
