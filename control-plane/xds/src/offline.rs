//! A snapshot's resources as they stand on the stream, without one: for contract tests and offline checks.

use std::sync::Arc;

use prost::Message;
use weft_compile::Snapshot;
use weft_proto::{discovery, mesh};

use crate::catalog::Catalog;
use crate::kind::Kind;
use crate::snapshot_catalog::SnapshotCatalog;

/// Every resource of one moment by its name.
pub struct Offline(SnapshotCatalog);

impl Offline {
    /// Of a snapshot and trust anchors.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, trust: Arc<mesh::TrustBundle>) -> Self {
        Self(SnapshotCatalog { snapshot, trust })
    }

    /// What a subscriber to `name` is sent. `None`: there is no such thing.
    #[must_use]
    pub fn resource(&self, kind: Kind, name: &str) -> Option<discovery::Resource> {
        let body = self.0.body(kind, name, false)?;
        discovery::Resource::decode(body.wire().clone()).ok()
    }
}
