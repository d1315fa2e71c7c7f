//! What the callers of one credential have under way together, and the limits of that.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use crate::{
    error::QueueUnit,
    security::CallerRights,
    wire::credential::{CallerGrant, GrantHolder},
};

/// How many holders may be remembered before those that have nothing under way are looked for.
const FEW: usize = 64;

/// What the holders of credentials with limits have under way.
#[derive(Debug)]
pub(super) struct Allowances(Mutex<Holders>);

#[derive(Debug)]
struct Holders {
    usage: HashMap<GrantHolder, Weak<Usage>>,
    /// When there are this many, those are dropped that have nothing under way any more.
    clean_at: usize,
}

/// What one holder has under way.
#[derive(Debug, Default)]
struct Usage(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    calls: usize,
    bytes: usize,
}

impl Usage {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one connection may do. The connection counts until this is dropped.
#[derive(Debug)]
pub(super) struct Allowance {
    pub(super) rights: Arc<CallerRights>,
    usage: Arc<Usage>,
}

/// A limit that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) under_way: usize,
    pub(super) limit: usize,
    pub(super) unit: QueueUnit,
}

/// A call that counts among those of its holder, until it has ended or this is dropped: by the one that awaits its end, by
/// the call itself, and by the core once the call has ended while its handler goes on.
#[derive(Debug)]
pub(super) struct CountedCall {
    usage: Arc<Usage>,
    /// Bytes of its arguments; `None` once it does not count any more.
    size: Mutex<Option<usize>>,
}

impl Allowances {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Holders { usage: HashMap::new(), clean_at: FEW }))
    }

    /// Another connection comes by a credential.
    ///
    /// # Errors
    ///
    /// Why there may not be another one, as a sentence for the caller.
    pub(super) fn connect(&self, grant: &CallerGrant) -> Result<Allowance, String> {
        let CallerGrant { rights, holder } = grant;
        let usage = self.usage_of(holder);
        let mut counts = usage.lock();
        if let Some(most) = rights.max_connections.filter(|most| counts.connections >= *most) {
            return Err(format!(
                "{} callers are connected with its credential, and its `max_connections` is {most}; end one of them, or have the \
                 limit raised",
                counts.connections
            ));
        }
        counts.connections += 1;
        drop(counts);
        Ok(Allowance { rights: Arc::clone(rights), usage })
    }

    fn usage_of(&self, holder: &GrantHolder) -> Arc<Usage> {
        let mut holders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = holders.usage.get(holder).and_then(Weak::upgrade) {
            return usage;
        }
        if holders.usage.len() >= holders.clean_at {
            holders.usage.retain(|_, usage| usage.strong_count() > 0);
            holders.clean_at = (2 * holders.usage.len()).max(FEW);
        }
        let usage = Arc::new(Usage::default());
        holders.usage.insert(holder.clone(), Arc::downgrade(&usage));
        usage
    }
}

impl Allowance {
    /// A call begins, with this many bytes of arguments.
    ///
    /// # Errors
    ///
    /// The limit that was met. Nothing is counted then.
    pub(super) fn begin(&self, size: usize) -> Result<Arc<CountedCall>, Met> {
        let mut counts = self.usage.lock();
        if let Some(limit) = self.rights.max_calls.filter(|most| counts.calls >= *most) {
            return Err(Met { under_way: counts.calls, limit, unit: QueueUnit::Calls });
        }
        if let Some(limit) = self.rights.max_bytes.filter(|most| counts.bytes.saturating_add(size) > *most) {
            return Err(Met { under_way: counts.bytes, limit, unit: QueueUnit::Bytes });
        }
        counts.calls += 1;
        counts.bytes += size;
        drop(counts);
        Ok(Arc::new(CountedCall { usage: Arc::clone(&self.usage), size: Mutex::new(Some(size)) }))
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.usage.lock().connections -= 1;
    }
}

impl CountedCall {
    /// It does not count any more: its handler has returned, or was never started.
    pub(super) fn end(&self) {
        let size = self.size.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(size) = size {
            let mut counts = self.usage.lock();
            counts.calls -= 1;
            counts.bytes -= size;
        }
    }
}

impl Drop for CountedCall {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(name: &str, rights: CallerRights) -> CallerGrant {
        CallerGrant { rights: Arc::new(rights), holder: GrantHolder::Name(name.to_owned()) }
    }

    #[test]
    fn all_connections_of_a_holder_share_its_limits_and_others_do_not() {
        let all = Allowances::new();
        let rights = CallerRights::new().max_connections(2).max_calls(2).max_bytes(100);
        let (own, other) = (grant("a", rights.clone()), grant("b", rights));
        let [first, second] = [0, 1].map(|_| all.connect(&own).expect("may connect"));
        assert!(all.connect(&own).expect_err("is one too many").contains("`max_connections` is 2"));
        let elsewhere = all.connect(&other).expect("has its own limit");
        let large = first.begin(90).expect("may begin");
        let bytes = Met { under_way: 90, limit: 100, unit: QueueUnit::Bytes };
        assert_eq!(second.begin(11).expect_err("is too large"), bytes);
        let small = second.begin(10).expect("may begin");
        let calls = Met { under_way: 2, limit: 2, unit: QueueUnit::Calls };
        assert_eq!(first.begin(0).expect_err("is one too many"), calls);
        assert!(elsewhere.begin(100).is_ok());
        large.end();
        large.end();
        drop(large);
        let _large = first.begin(90).expect("the other has ended");
        drop(small);
        drop(second);
        drop(all.connect(&own).expect("the other has left"));
    }

    #[test]
    fn a_call_that_outlives_its_connection_counts_for_the_next_one() {
        let all = Allowances::new();
        let own = grant("a", CallerRights::new().max_calls(1));
        let detached = all.connect(&own).expect("may connect").begin(1).expect("may begin");
        let next = all.connect(&own).expect("may connect");
        assert!(next.begin(1).is_err());
        drop(detached);
        assert!(next.begin(1).is_ok());
    }

    #[test]
    fn holders_that_have_nothing_under_way_are_forgotten() {
        let all = Allowances::new();
        let kept: Vec<_> = (0..10)
            .map(|number| all.connect(&grant(&format!("k{number}"), CallerRights::new())).expect("may connect"))
            .collect();
        for number in 0..10_000 {
            drop(all.connect(&grant(&format!("n{number}"), CallerRights::new())));
        }
        let holders = all.0.lock().expect("nobody panicked").usage.len();
        assert!((kept.len()..=FEW).contains(&holders), "{holders}");
    }
}
