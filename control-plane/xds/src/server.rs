//! What is served and to whom: snapshots and trust anchors in, progress out. Streams share it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use weft_compile::{Delta, Snapshot};
use weft_identity::PodRef;
use weft_proto::mesh;

use crate::catalog::{Changes, Pattern};
use crate::discovery_service::DiscoveryService;
use crate::hub::Hub;
use crate::kind::Kind;
use crate::lookup_budget::Limits;
use crate::progress::{Epoch, Progress, ProxyStatus};
use crate::snapshot_catalog::{DEFAULT, SnapshotCatalog, patterns};

/// The stream server. Clones share everything.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

/// What all streams have in common.
pub(crate) struct Shared {
    state: Mutex<State>,
    pub limits: Limits,
    /// Counts what may have brought an epoch further.
    progressed: watch::Sender<u64>,
    pub closing: watch::Sender<bool>,
}

pub(crate) struct State {
    pub hub: Hub,
    snapshot: Option<Arc<Snapshot>>,
    trust: Arc<mesh::TrustBundle>,
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not take the streams of all proxies with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn progressed(&self) {
        self.progressed.send_modify(|count| *count += 1);
    }
}

impl Server {
    /// A server that refuses streams until the first snapshot is published. `replica` names it in
    /// epochs.
    #[must_use]
    pub fn new(replica: &str, trust: mesh::TrustBundle, limits: Limits) -> Self {
        let state = State {
            hub: Hub::new(replica.into()),
            snapshot: None,
            trust: Arc::new(trust),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                limits,
                progressed: watch::Sender::new(0),
                closing: watch::Sender::new(false),
            }),
        }
    }

    /// Takes in a snapshot. `difference` to the one published before; `None`: not known.
    pub fn publish(&self, snapshot: Arc<Snapshot>, difference: Option<&Delta>) -> Epoch {
        let changes = difference.map_or(Changes::All, |difference| {
            let keys = difference.changed.iter().chain(&difference.removed);
            Changes::Some(keys.flat_map(patterns).collect())
        });
        let mut state = self.shared.state();
        state.snapshot = Some(snapshot);
        let epoch = state.publish(&changes);
        drop(state);
        self.shared.progressed();
        epoch
    }

    /// Takes in other trust anchors.
    pub fn publish_trust(&self, trust: mesh::TrustBundle) -> Epoch {
        let changes = Changes::Some(vec![Pattern::exact(Kind::TrustBundle, DEFAULT)]);
        let mut state = self.shared.state();
        state.trust = Arc::new(trust);
        let epoch = state.publish(&changes);
        drop(state);
        self.shared.progressed();
        epoch
    }

    /// The newest epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.shared.state().epoch()
    }

    /// Whether streams are served.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.state().hub.is_ready()
    }

    /// The newest snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.shared.state().snapshot.clone()
    }

    /// How far everything up to `epoch` has come. An epoch of another replica, or one that is not
    /// here yet, is confirmed by nobody.
    #[must_use]
    pub fn confirmed(&self, epoch: &Epoch) -> Progress {
        let mut state = self.shared.state();
        let ours = epoch.replica == *state.hub.replica();
        state
            .hub
            .progress(if ours { epoch.counter } else { u64::MAX })
    }

    /// The connected pods of which every stream has confirmed the newest trust anchors.
    #[must_use]
    pub fn trust_holders(&self) -> HashSet<PodRef> {
        self.shared.state().hub.holders(Kind::TrustBundle, DEFAULT)
    }

    /// All streams, by pod.
    #[must_use]
    pub fn proxies(&self) -> Vec<ProxyStatus> {
        self.shared.state().hub.proxies()
    }

    /// Changes whenever [`Server::confirmed`] or [`Server::proxies`] may answer differently.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.shared.progressed.subscribe()
    }

    /// Ends all streams; proxies go to another replica, or come back.
    pub fn close(&self) {
        self.shared.closing.send_replace(true);
    }

    /// The gRPC service. Whoever terminates TLS puts a [`Peer`] into each request's extensions.
    #[must_use]
    pub fn service(&self) -> DiscoveryService {
        DiscoveryService::new(Arc::clone(&self.shared))
    }
}

impl State {
    fn publish(&mut self, changes: &Changes) -> Epoch {
        if let Some(snapshot) = &self.snapshot {
            let catalog = SnapshotCatalog {
                snapshot: Arc::clone(snapshot),
                trust: Arc::clone(&self.trust),
            };
            self.hub.publish(Arc::new(catalog), changes);
        }
        self.epoch()
    }

    fn epoch(&self) -> Epoch {
        Epoch {
            replica: Arc::clone(self.hub.replica()),
            counter: self.hub.epoch(),
        }
    }
}
