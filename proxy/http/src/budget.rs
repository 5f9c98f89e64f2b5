//! One budget of bytes for the whole process: what bodies kept for a replay may take together.
//!
//! Memory stays bounded whatever the number of requests: where the budget is spent, a body is simply not kept,
//! and its request not retried once the body is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shared by all workers. Clones are the same one.
#[derive(Clone, Debug)]
pub struct ByteBudget(Arc<State>);

#[derive(Debug)]
struct State {
    limit: usize,
    used: AtomicUsize,
}

impl ByteBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(State {
            limit,
            used: AtomicUsize::new(0),
        }))
    }

    /// Bytes that are taken now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// A share that begins with nothing.
    pub(crate) fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            bytes: 0,
        }
    }
}

/// Bytes taken by one holder; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: ByteBudget,
    bytes: usize,
}

impl Share {
    /// Takes `bytes` more; false where that would go over the budget.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let state = &self.budget.0;
        if state.used.fetch_add(bytes, Ordering::Relaxed) + bytes > state.limit {
            state.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// What it has taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives all of it back.
    pub(crate) fn clear(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_hold_more_than_the_budget_and_give_it_back() {
        let budget = ByteBudget::new(10);
        let (mut first, mut second) = (budget.share(), budget.share());
        assert!(first.grow(6));
        assert!(!second.grow(5));
        assert!(second.grow(4));
        assert_eq!(budget.used(), 10);
        first.clear();
        assert!(second.grow(6));
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }
}
