//! The status that objects show: what their writer compares with and writes over. Kept beside the
//! model, which knows nothing of it, so that a new status is no change of the world.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::watch;
use weft_model::ObjectKey;

/// What an object of the Gateway API or of Weft shows, as it came last.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// `metadata.resourceVersion`.
    pub version: u64,
    /// `metadata.generation` of what the user wrote last, which need not be in force.
    pub generation: u64,
    /// `spec.parentRefs` of a route, `spec.targetRefs` of a policy, as written.
    pub references: Vec<Value>,
    /// `status`; null where there is none.
    pub status: Value,
    /// The number of the batch by which all of that generation was handed out.
    pub since: u64,
}

/// The status of every object that has one. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct Shown(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    statuses: Mutex<BTreeMap<ObjectKey, Arc<Status>>>,
    changed: watch::Sender<()>,
}

impl Shown {
    fn statuses(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Arc<Status>>> {
        let statuses = self.0.statuses.lock();
        statuses.unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them as they are now.
    #[must_use]
    pub fn all(&self) -> BTreeMap<ObjectKey, Arc<Status>> {
        self.statuses().clone()
    }

    /// Changes whenever one of them does.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Takes in what came until the batch of this number; `None` is an object that is gone.
    pub(super) fn update(
        &self,
        news: impl Iterator<Item = (ObjectKey, Option<Status>)>,
        batch: u64,
    ) {
        let mut has_changed = false;
        let mut statuses = self.statuses();
        for (key, status) in news {
            let before = statuses.get(&key);
            let Some(mut status) = status else {
                has_changed |= statuses.remove(&key).is_some();
                continue;
            };
            let known = before.filter(|before| before.generation == status.generation);
            status.since = known.map_or(batch, |before| before.since);
            if before.is_none_or(|before| **before != status) {
                has_changed = true;
                statuses.insert(key, Arc::new(status));
            }
        }
        drop(statuses);
        if has_changed {
            self.0.changed.send_replace(());
        }
    }
}
