//! A service that knows how often each of its calls has run, for tests in which a connection breaks: a call must not be lost,
//! and must not run twice.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use distribution::current;

use crate::ProbeClient;

/// Makes entries. None of its methods may run twice.
#[distribution::service]
pub trait Ledger {
    /// Notes that this entry was made, and returns it.
    fn enter(&self, entry: u64) -> u64;

    /// The same without a slot.
    async fn enter_async(&self, entry: u64) -> u64;

    /// The same, with a value of this many bytes.
    fn enter_large(&self, entry: u64, bytes: u64) -> Vec<u8>;

    /// The same without a slot.
    async fn enter_large_async(&self, entry: u64, bytes: u64) -> Vec<u8>;

    /// Makes an entry by a nested call, once the test at this address lets it go. Must be served beside [`Probe`](crate::Probe).
    fn enter_later(&self, entry: u64, at: SocketAddr) -> u64;
}

/// Counts how often each entry was made.
#[derive(Clone, Debug, Default)]
pub struct Clerk(Arc<Mutex<HashMap<u64, u32>>>);

impl Clerk {
    /// How often this entry was made.
    pub fn times(&self, entry: u64) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&entry).copied().unwrap_or(0)
    }
}

impl Ledger for Clerk {
    fn enter(&self, entry: u64) -> u64 {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(entry).or_default() += 1;
        entry
    }

    async fn enter_async(&self, entry: u64) -> u64 {
        self.enter(entry)
    }

    fn enter_large(&self, entry: u64, bytes: u64) -> Vec<u8> {
        vec![self.enter(entry) as u8; bytes as usize]
    }

    async fn enter_large_async(&self, entry: u64, bytes: u64) -> Vec<u8> {
        self.enter_large(entry, bytes)
    }

    fn enter_later(&self, entry: u64, at: SocketAddr) -> u64 {
        let ledger = LedgerClient::new(&current());
        let nested = ledger.enter(entry).send();
        ProbeClient::new(&current()).hold(at, entry.to_string()).wait().expect("is let go");
        nested.wait().expect("is answered")
    }
}
