//! How long a change waits for others: policy and routing come in bursts and are compiled
//! together; endpoints are not kept waiting, and take with them what waits already.

use std::time::Duration;

use tokio::time::Instant;
use weft_model::{Change, Kind};

/// So long after the last change of a burst.
const QUIET: Duration = Duration::from_millis(5);
/// But at most so long after its first.
const LONGEST: Duration = Duration::from_millis(50);

/// Changes that wait.
#[derive(Debug, Default)]
pub(crate) struct Coalescer {
    changes: Vec<Change>,
    first: Option<Instant>,
    due: Option<Instant>,
}

impl Coalescer {
    /// Adds changes that come at `now`.
    pub fn add(&mut self, changes: Vec<Change>, now: Instant) {
        let first = *self.first.get_or_insert(now);
        let urgent = changes.iter().any(is_urgent);
        self.due = Some(if urgent {
            now
        } else {
            (now + QUIET).min(first + LONGEST)
        });
        self.changes.extend(changes);
    }

    /// When to take the changes; `None` while there are none.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// All changes in the order in which they came.
    pub fn take(&mut self) -> Vec<Change> {
        *self = Self {
            changes: std::mem::take(&mut self.changes),
            ..Self::default()
        };
        std::mem::take(&mut self.changes)
    }
}

/// Where requests can go: a change of it is worth a compilation of its own.
fn is_urgent(change: &Change) -> bool {
    matches!(change.key().kind, Kind::EndpointSlice | Kind::Pod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::ObjectKey;

    fn gone(kind: Kind, name: &str) -> Vec<Change> {
        vec![Change::Delete(ObjectKey::new(kind, "shop", name))]
    }

    #[test]
    fn a_burst_of_policy_waits_for_its_end_but_not_for_ever() {
        let mut waiting = Coalescer::default();
        assert_eq!(waiting.due(), None);
        let start = Instant::now();
        let mut now = start;
        for _ in 0..20 {
            waiting.add(gone(Kind::HttpRoute, "r"), now);
            assert!(waiting.due().unwrap() <= start + LONGEST);
            now += QUIET - Duration::from_millis(1);
        }
        assert_eq!(waiting.due(), Some(start + LONGEST));
        assert_eq!(waiting.take().len(), 20);
        assert_eq!(waiting.due(), None);
        waiting.add(gone(Kind::HttpRoute, "r"), now);
        assert_eq!(waiting.due(), Some(now + QUIET));
    }

    #[test]
    fn endpoints_do_not_wait_and_keep_the_order() {
        let mut waiting = Coalescer::default();
        let now = Instant::now();
        waiting.add(gone(Kind::HttpRoute, "r"), now);
        waiting.add(gone(Kind::EndpointSlice, "e"), now);
        assert_eq!(waiting.due(), Some(now));
        let changes = waiting.take();
        let kinds: Vec<_> = changes.iter().map(|change| change.key().kind).collect();
        assert_eq!(kinds, [Kind::HttpRoute, Kind::EndpointSlice]);
    }
}
