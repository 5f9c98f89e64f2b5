//! How each watch is doing: for metrics, readiness and alarms.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::resource::Resource;

/// How the watches are doing, as of now. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<Resource, Watched>>>);

/// How one watch is doing.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The resource, as in RBAC: `pods`, `httproutes.gateway.networking.k8s.io`.
    pub resource: String,
    /// It has been listed to its end, once or more.
    pub is_listed: bool,
    /// When the API server last said anything about it, if only that nothing changed.
    pub heard: Option<Instant>,
    /// Why the last attempt failed; what is known stays in force meanwhile.
    pub failure: Option<String>,
}

impl Health {
    fn watches(&self) -> MutexGuard<'_, BTreeMap<Resource, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every watch that runs.
    pub fn watched(&self) -> Vec<Watched> {
        self.watches().values().cloned().collect()
    }

    /// Whether every watch has listed its resource and none is failing.
    pub fn is_in_sync(&self) -> bool {
        let watches = self.watches();
        let mut all = watches.values();
        !watches.is_empty() && all.all(|watched| watched.is_listed && watched.failure.is_none())
    }

    pub(super) fn begun(&self, resource: Resource) {
        let watched = Watched {
            resource: resource.to_string(),
            is_listed: false,
            heard: None,
            failure: None,
        };
        self.watches().insert(resource, watched);
    }

    pub(super) fn ended(&self, resource: Resource) {
        self.watches().remove(&resource);
    }

    pub(super) fn listed(&self, resource: Resource) {
        if let Some(watched) = self.watches().get_mut(&resource) {
            watched.is_listed = true;
        }
    }

    pub(super) fn heard(&self, resource: Resource) {
        if let Some(watched) = self.watches().get_mut(&resource) {
            watched.heard = Some(Instant::now());
            if watched.failure.take().is_some() {
                tracing::info!("{resource}: watching again");
            }
        }
    }

    pub(super) fn failed(&self, resource: Resource, failure: &str) {
        if let Some(watched) = self.watches().get_mut(&resource) {
            // Told once, not at every attempt.
            if watched.failure.as_deref() != Some(failure) {
                tracing::warn!("cannot watch {resource}: {failure}");
                watched.failure = Some(failure.to_owned());
            }
        }
    }
}
