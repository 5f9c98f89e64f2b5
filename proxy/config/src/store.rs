//! The active state: one writer (the stream client), many readers (the workers).
//!
//! A cell per address and per service; the writer swaps what is in a cell, readers load it. Nobody who
//! reads takes a lock: the tables are immutable maps that are swapped when a name is added. Workers may
//! keep a [`ServiceCell`] for as long as they like: what it holds is always the newest active state.
//!
//! What is not known is asked for on first use; what is not used for long is let go, and kept in a bounded
//! cache for when nobody answers.

mod addresses;
mod lookup_rate;
mod service_cell;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::backend::Backend;
use crate::inbound::Inbound;
use crate::mesh::{MeshConfig, OutboundPolicy};
use addresses::{AddressCell, Addresses, Answer};
use lookup_rate::LookupRate;
pub use service_cell::{ServiceCell, ServiceName};
pub use writer::{AddressTarget, Unused, Writer};

/// Bounds of what a store holds.
#[derive(Debug, Clone)]
pub struct StoreLimits {
    /// How long a look-up waits for the control plane.
    pub lookup_wait: Duration,
    /// New addresses asked for per second.
    pub lookups_per_second: u32,
    /// New addresses asked for at once.
    pub lookup_burst: u32,
    /// Addresses that are held at all.
    pub max_addresses: usize,
    /// Of those, how many are kept after they were let go.
    pub max_let_go: usize,
    /// Sweeps (see [`Writer::sweep`]) without use until something is let go.
    pub idle_sweeps: u32,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            lookup_wait: Duration::from_secs(1),
            lookups_per_second: 100,
            lookup_burst: 200,
            max_addresses: 8192,
            max_let_go: 512,
            idle_sweeps: 20,
        }
    }
}

/// What is behind an address.
#[derive(Debug, Clone)]
pub enum Resolution {
    /// A port of a service.
    Service {
        /// The service; load it once per connection or request.
        service: Arc<ServiceCell>,
        /// The service's port.
        port: u16,
    },
    /// A pod's own address: one endpoint, no routes.
    Workload(Arc<Backend>),
    /// Nobody of the mesh, and the outbound policy lets it pass.
    Passthrough,
    /// Not to be reached.
    Refused(RefusedReason),
}

/// Why an address is not to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RefusedReason {
    /// Outside of the mesh, and only declared destinations are allowed.
    #[error("the destination is not declared and the outbound policy is RegistryOnly")]
    RegistryOnly,
    /// An address of the mesh that nobody has.
    #[error("no service or pod has this address of the mesh")]
    UnknownMeshAddress,
    /// Never seen before, and the control plane does not answer.
    #[error("the destination is not known yet and the control plane does not answer")]
    NoControlPlane,
    /// Too many new destinations at once.
    #[error("too many new destinations are being looked up")]
    LookupLimit,
}

/// The active state of this proxy.
#[derive(Debug)]
pub struct Store {
    limits: StoreLimits,
    addresses: Addresses,
    mesh: ArcSwap<MeshConfig>,
    mesh_known: AtomicBool,
    inbound: ArcSwapOption<Inbound>,
    inbound_changes: watch::Sender<Option<Arc<Inbound>>>,
    rate: LookupRate,
    wanted: mpsc::UnboundedSender<SocketAddr>,
    link: AtomicU8,
}

/// Whether anybody can answer a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Link {
    /// The stream was never there: it may come any moment.
    NotYet = 0,
    Up = 1,
    Down = 2,
}

impl Store {
    /// An empty store and its one writer.
    pub fn new(limits: StoreLimits) -> (Arc<Self>, Writer) {
        let (wanted, demand) = mpsc::unbounded_channel();
        let store = Arc::new(Self {
            rate: LookupRate::new(limits.lookups_per_second, limits.lookup_burst),
            limits,
            addresses: Addresses::default(),
            mesh: ArcSwap::default(),
            mesh_known: AtomicBool::new(false),
            inbound: ArcSwapOption::empty(),
            inbound_changes: watch::Sender::new(None),
            wanted,
            link: AtomicU8::new(Link::NotYet as u8),
        });
        let writer = Writer::new(Arc::clone(&store), demand);
        (store, writer)
    }

    /// The mesh's settings; until they are known, those under which nothing passes.
    pub fn mesh(&self) -> Arc<MeshConfig> {
        self.mesh.load_full()
    }

    /// Whether the mesh's settings are known.
    pub fn is_mesh_known(&self) -> bool {
        self.mesh_known.load(Ordering::Acquire)
    }

    /// What this pod takes. None: no policy yet, so nothing.
    pub fn inbound(&self) -> Option<Arc<Inbound>> {
        self.inbound.load_full()
    }

    /// Changes of [`Self::inbound`].
    pub fn inbound_changes(&self) -> watch::Receiver<Option<Arc<Inbound>>> {
        self.inbound_changes.subscribe()
    }

    /// Whether the stream to the control plane is up.
    pub fn is_connected(&self) -> bool {
        self.link() == Link::Up
    }

    fn link(&self) -> Link {
        match self.link.load(Ordering::Relaxed) {
            1 => Link::Up,
            2 => Link::Down,
            _ => Link::NotYet,
        }
    }

    /// What is behind an address, if it is known and subscribed to; remembers that it is used.
    pub fn resolved(&self, to: SocketAddr) -> Option<Resolution> {
        let cell = self.addresses.find(canonical(to))?;
        let answer = cell.live_answer()?;
        Some(self.resolution(to, &answer))
    }

    /// What is behind an address. Asks the control plane on first use: concurrent look-ups of one address
    /// are one question, and none waits longer than a second. With no answer, what was known before it was
    /// let go holds; without that, an address of the mesh is refused and others follow the outbound policy.
    pub async fn resolve(&self, to: SocketAddr) -> Resolution {
        if let Some(known) = self.resolved(to) {
            return known;
        }
        let to = canonical(to);
        let cell = match self.addresses.find(to) {
            Some(cell) => cell,
            None => match self.admit(to) {
                Some(cell) => cell,
                None => return self.unanswered(to, RefusedReason::LookupLimit),
            },
        };
        if cell.ask() {
            // Nobody listens only while the process ends.
            let _ = self.wanted.send(to);
        }
        let answer = match self.link() {
            Link::Down => cell.last_answer(),
            Link::NotYet | Link::Up => {
                let until = Instant::now() + self.limits.lookup_wait;
                match tokio::time::timeout_at(until, cell.answered()).await {
                    Ok(answer) => Some(answer),
                    Err(_) => cell.last_answer(),
                }
            }
        };
        match answer {
            Some(answer) => self.resolution(to, &answer),
            None => self.unanswered(to, RefusedReason::NoControlPlane),
        }
    }

    /// All addresses that are held, for the configuration dump: what is behind them, and whether they are
    /// still subscribed to.
    pub fn addresses(&self) -> Vec<(SocketAddr, Resolution, bool)> {
        let mut all: Vec<_> = self
            .addresses
            .all()
            .into_iter()
            .filter_map(|(address, cell)| {
                let answer = cell.last_answer()?;
                let resolution = self.resolution(address, &answer);
                Some((address, resolution, cell.is_live()))
            })
            .collect();
        all.sort_by_key(|(address, ..)| *address);
        all
    }

    /// A cell for a new address, within the limits.
    fn admit(&self, to: SocketAddr) -> Option<Arc<AddressCell>> {
        if !self.rate.admit(Instant::now()) {
            return None;
        }
        self.addresses.insert(to, self.limits.max_addresses)
    }

    fn resolution(&self, to: SocketAddr, answer: &Answer) -> Resolution {
        match answer {
            Answer::Service { service, port } => Resolution::Service {
                service: Arc::clone(service),
                port: *port,
            },
            Answer::Workload(backend) => Resolution::Workload(Arc::clone(backend)),
            Answer::Nobody => self.unanswered(to, RefusedReason::UnknownMeshAddress),
        }
    }

    /// The resolution of an address that nothing is known to be behind; `reason` is for one of the mesh.
    fn unanswered(&self, to: SocketAddr, reason: RefusedReason) -> Resolution {
        if !self.is_mesh_known() {
            return Resolution::Refused(RefusedReason::NoControlPlane);
        }
        let mesh = self.mesh.load();
        if mesh.contains(to.ip()) {
            Resolution::Refused(reason)
        } else if mesh.outbound == OutboundPolicy::AllowAny {
            Resolution::Passthrough
        } else {
            Resolution::Refused(RefusedReason::RegistryOnly)
        }
    }
}

/// IPv4-mapped addresses are the IPv4 ones; flow and scope do not matter.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
