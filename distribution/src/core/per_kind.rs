//! A value for each kind of method.

use std::ops::{Index, IndexMut};

use crate::service::method::MethodKind;

/// A value for compute methods and one for async methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PerKind<T> {
    pub(super) compute: T,
    pub(super) asynchronous: T,
}

/// Both kinds, for loops.
pub(super) const KINDS: [MethodKind; 2] = [MethodKind::Compute, MethodKind::Async];

impl<T> Index<MethodKind> for PerKind<T> {
    type Output = T;

    fn index(&self, kind: MethodKind) -> &T {
        match kind {
            MethodKind::Compute => &self.compute,
            MethodKind::Async => &self.asynchronous,
        }
    }
}

impl<T> IndexMut<MethodKind> for PerKind<T> {
    fn index_mut(&mut self, kind: MethodKind) -> &mut T {
        match kind {
            MethodKind::Compute => &mut self.compute,
            MethodKind::Async => &mut self.asynchronous,
        }
    }
}
