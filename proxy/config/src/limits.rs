//! Circuit breaking: counters that are taken on entry and given back on drop. They belong to the
//! backend, not to its configuration, so a change of limits neither forgets nor doubles what is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overloaded {
    /// Requests in flight.
    #[error("too many requests in flight")]
    Requests,
    /// Open connections.
    #[error("too many connections")]
    Connections,
    /// Requests that wait for a connection.
    #[error("too many requests waiting for a connection")]
    Pending,
}

/// A place under a limit; dropping it gives the place back.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub struct Permit(Arc<Places>);

impl Permit {
    /// Somebody was turned away since this was last asked: whoever holds a place without using it had better give it
    /// back. One holder at most is told so for each time.
    pub fn is_wanted(&self) -> bool {
        self.0.wanted.load(Ordering::Relaxed) && self.0.wanted.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Release);
    }
}

#[derive(Debug, Default)]
struct Places {
    taken: AtomicU32,
    wanted: AtomicBool,
}

/// One counter under a limit that its caller brings along.
#[derive(Debug, Default)]
pub(crate) struct Gate(Arc<Places>);

impl Gate {
    /// Optimistic: one atomic addition where the limit is not reached.
    pub(crate) fn enter(&self, limit: u32) -> Option<Permit> {
        if self.0.taken.fetch_add(1, Ordering::Acquire) >= limit {
            self.0.taken.fetch_sub(1, Ordering::Release);
            self.0.wanted.store(true, Ordering::Relaxed);
            return None;
        }
        Some(Permit(Arc::clone(&self.0)))
    }

    pub(crate) fn taken(&self) -> u32 {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// Is this a place under this limit?
    pub(crate) fn gave(&self, permit: &Permit) -> bool {
        Arc::ptr_eq(&self.0, &permit.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_when_dropped_and_survive_a_change_of_limit() {
        let gate = Gate::default();
        let first = gate.enter(2).unwrap();
        let second = gate.enter(2).unwrap();
        assert!(gate.enter(2).is_none());
        assert!(gate.enter(1).is_none(), "a lower limit counts what is open");
        let third = gate.enter(3).unwrap();
        assert_eq!(gate.taken(), 3);
        drop((first, second));
        assert_eq!(gate.taken(), 1);
        drop(third);
        assert_eq!(gate.taken(), 0);
    }

    #[test]
    fn who_was_turned_away_is_heard_of_once_by_who_holds_a_place() {
        let (gate, other) = (Gate::default(), Gate::default());
        let held = gate.enter(1).unwrap();
        assert!(gate.gave(&held) && !other.gave(&held));
        assert!(!held.is_wanted());
        assert!(gate.enter(1).is_none());
        assert!(held.is_wanted());
        assert!(!held.is_wanted(), "one place for one who wants it");
    }

    #[test]
    fn threads_never_hold_more_than_the_limit() {
        let gate = Gate::default();
        let held = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if let Some(permit) = gate.enter(3) {
                            assert!(held.fetch_add(1, Ordering::SeqCst) < 3);
                            held.fetch_sub(1, Ordering::SeqCst);
                            drop(permit);
                        }
                    }
                });
            }
        });
        assert_eq!(gate.taken(), 0);
    }
}
