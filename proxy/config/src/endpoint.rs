//! One address of a workload, what it takes at which port, and what is known of its health.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use smallvec::SmallVec;
use weft_identity::SpiffeId;

use crate::outlier::Ejection;
use crate::protocol::{Locality, Protocol};

/// One address of a workload, as the control plane describes it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The pod's address.
    pub address: IpAddr,
    /// What it takes per service port.
    pub ports: SmallVec<[EndpointPort; 2]>,
    /// Who must answer there; None: not in the mesh.
    pub identity: Option<SpiffeId>,
    /// Namespace of the workload.
    pub namespace: Arc<str>,
    /// Name of the workload, e.g. of the Deployment.
    pub workload: Arc<str>,
    /// Where it is.
    pub locality: Locality,
    /// Relative share of requests; at least 1.
    pub weight: u32,
    /// It takes requests.
    pub ready: bool,
    /// It is being deleted: no new requests.
    pub terminating: bool,
    /// Health and load, shared by all workers; survives changes of configuration.
    pub state: Arc<EndpointState>,
}

impl Endpoint {
    /// Whether new requests may go there, ejections aside.
    pub fn is_usable(&self) -> bool {
        self.ready && !self.terminating
    }
}

/// What an endpoint takes at one service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointPort {
    /// The service's port; 0 for a pod's own address.
    pub service_port: u16,
    /// The port on the endpoint.
    pub port: u16,
    /// It takes mTLS; otherwise plaintext.
    pub mtls: bool,
    /// What it speaks.
    pub protocol: Protocol,
}

/// Load and health of one address of one service. Atomics only; there is one per (service, address) as
/// long as anybody refers to it, whatever happens to the configuration.
#[derive(Debug)]
pub struct EndpointState {
    id: u64,
    in_flight: AtomicU32,
    pub(crate) ejection: Ejection,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl EndpointState {
    /// A new, healthy one with an ID of its own.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            in_flight: AtomicU32::new(0),
            ejection: Ejection::default(),
        })
    }

    /// Unique in this process, never 0, never used again: the key of per-worker pools and averages.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Requests (or opaque connections) in flight, over all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts one request (or opaque connection) until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }
}

/// A request in flight at an endpoint.
#[derive(Debug)]
#[must_use = "the request counts as in flight until this is dropped"]
pub struct InFlight(Arc<EndpointState>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
