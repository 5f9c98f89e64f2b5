//! How the stream client is doing, for readiness, metrics and the admin interface.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

/// A resource that is not in force in its newest state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedResource {
    /// Its type, e.g. `Service`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Where in it; may be empty.
    pub field: String,
    /// Why.
    pub reason: String,
}

/// A resource subscribed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribedResource {
    /// Its type, e.g. `Service`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The version in force; None: not there, or nobody.
    pub version: Option<String>,
}

/// The workload's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateStatus {
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Last instant of its validity.
    pub not_after: SystemTime,
    /// Attempts to renew it that have failed.
    pub failed_renewals: u32,
    /// It should have been renewed long ago.
    pub alarm: bool,
}

/// A moment of the stream client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The stream is up.
    pub connected: bool,
    /// Connections made so far.
    pub connections: u64,
    /// When everything that the control plane had sent was in force last; None: never.
    pub confirmed_at: Option<SystemTime>,
    /// Something that the control plane sent is not in force yet.
    pub unconfirmed: bool,
    /// Why the last stream ended or could not be opened.
    pub last_error: Option<String>,
    /// The certificate in use.
    pub certificate: Option<CertificateStatus>,
    /// What is subscribed to.
    pub subscribed: Vec<SubscribedResource>,
    /// What is refused.
    pub refused: Vec<RefusedResource>,
}

impl Status {
    /// Age of the last confirmed snapshot: zero while the stream is up and everything is in force.
    pub fn snapshot_age(&self, now: SystemTime) -> Option<Duration> {
        let confirmed = self.confirmed_at?;
        if self.connected && !self.unconfirmed {
            return Some(Duration::ZERO);
        }
        Some(now.duration_since(confirmed).unwrap_or_default())
    }
}

/// The newest status; cheap to clone.
#[derive(Debug, Clone)]
pub struct StatusHandle(pub(crate) watch::Receiver<Arc<Status>>);

impl StatusHandle {
    /// The status of now.
    pub fn load(&self) -> Arc<Status> {
        self.0.borrow().clone()
    }

    /// Waits for the next change; false when the client has ended.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}
