//! The writer's side of the store. What it publishes is active at once: it is up to the caller (the stream
//! client's activation) to publish only what is whole.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tokio::sync::mpsc;

use super::addresses::Answer;
use super::service_cell::{ServiceCell, ServiceName};
use super::{Link, Store, canonical};
use crate::backend::{Backend, BackendKey, BackendSnapshot};
use crate::endpoint::EndpointState;
use crate::inbound::Inbound;
use crate::mesh::MeshConfig;
use crate::service::Service;

/// What is behind an address.
#[derive(Debug, Clone)]
pub enum AddressTarget {
    /// A port of a service that has been published.
    Service {
        /// Which service.
        service: Arc<ServiceCell>,
        /// Its port.
        port: u16,
    },
    /// A pod itself.
    Workload(Arc<Backend>),
    /// Nobody, as far as the control plane knows.
    Nobody,
}

/// What a sweep found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unused {
    /// Not used for long: no longer kept up to date.
    pub let_go: Vec<SocketAddr>,
    /// Let go before, and forgotten now.
    pub forgotten: Vec<SocketAddr>,
    /// Let go before, and used again by someone who held on to it.
    pub wanted_again: Vec<SocketAddr>,
}

/// The one writer of a [`Store`].
#[derive(Debug)]
pub struct Writer {
    store: Arc<Store>,
    demand: mpsc::UnboundedReceiver<SocketAddr>,
    services: HashMap<ServiceName, Weak<ServiceCell>>,
    backends: HashMap<BackendKey, Weak<Backend>>,
    endpoints: HashMap<(ServiceName, IpAddr), Weak<EndpointState>>,
}

impl Writer {
    pub(super) fn new(store: Arc<Store>, demand: mpsc::UnboundedReceiver<SocketAddr>) -> Self {
        Self {
            store,
            demand,
            services: HashMap::new(),
            backends: HashMap::new(),
            endpoints: HashMap::new(),
        }
    }

    /// The store it writes.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The next address that somebody wants to know about. Cancel safe.
    pub async fn wanted(&mut self) -> SocketAddr {
        match self.demand.recv().await {
            Some(address) => address,
            // The store holds the other end and this holds the store.
            None => std::future::pending().await,
        }
    }

    #[cfg(test)]
    pub(super) fn demand_is_empty(&self) -> bool {
        self.demand.is_empty()
    }

    /// Whether look-ups can be answered.
    pub fn set_connected(&self, connected: bool) {
        let link = if connected { Link::Up } else { Link::Down };
        self.store.link.store(link as u8, Ordering::Relaxed);
    }

    /// Sets the mesh's settings.
    pub fn set_mesh(&self, mesh: MeshConfig) {
        self.store.mesh.store(Arc::new(mesh));
        self.store.mesh_known.store(true, Ordering::Release);
    }

    /// Sets what this pod takes.
    pub fn set_inbound(&self, inbound: Inbound) {
        let inbound = Arc::new(inbound);
        self.store.inbound.store(Some(Arc::clone(&inbound)));
        self.store.inbound_changes.send_replace(Some(inbound));
    }

    /// The backend of a key: always the same one as long as anybody refers to it.
    pub fn backend(&mut self, key: &BackendKey) -> Arc<Backend> {
        if let Some(backend) = self.backends.get(key).and_then(Weak::upgrade) {
            return backend;
        }
        let backend = Backend::new(key.clone());
        self.backends.insert(key.clone(), Arc::downgrade(&backend));
        backend
    }

    /// The state of an endpoint: always the same one as long as anybody refers to it.
    pub fn endpoint_state(&mut self, service: &ServiceName, address: IpAddr) -> Arc<EndpointState> {
        let key = (service.clone(), address);
        if let Some(state) = self.endpoints.get(&key).and_then(Weak::upgrade) {
            return state;
        }
        let state = EndpointState::new();
        self.endpoints.insert(key, Arc::downgrade(&state));
        state
    }

    /// Sets who is behind a backend.
    pub fn set_endpoints(&self, backend: &Backend, snapshot: BackendSnapshot) {
        backend.replace(snapshot);
    }

    /// Sets the active state of a service; the cell is always the same one as long as anybody refers to it.
    pub fn set_service(&mut self, service: Arc<Service>) -> Arc<ServiceCell> {
        let name = ServiceName {
            namespace: Arc::clone(&service.namespace),
            name: Arc::clone(&service.name),
        };
        if let Some(cell) = self.services.get(&name).and_then(Weak::upgrade) {
            cell.replace(service);
            return cell;
        }
        let sweeps = self.store.addresses.sweeps.clone();
        let cell = Arc::new(ServiceCell::new(name.clone(), service, sweeps));
        self.services.insert(name, Arc::downgrade(&cell));
        cell
    }

    /// Sets what is behind an address; whoever waits for it goes on.
    pub fn set_address(&self, address: SocketAddr, target: AddressTarget) {
        let answer = match target {
            AddressTarget::Service { service, port } => Answer::Service { service, port },
            AddressTarget::Workload(backend) => Answer::Workload(backend),
            AddressTarget::Nobody => Answer::Nobody,
        };
        if let Some(cell) = self.store.addresses.insert(canonical(address), usize::MAX) {
            cell.publish(answer);
        }
    }

    /// Finds what has not been used; to be called at a steady pace, e.g. every 30 s.
    pub fn sweep(&mut self) -> Unused {
        self.services.retain(|_, cell| cell.strong_count() > 0);
        self.backends
            .retain(|_, backend| backend.strong_count() > 0);
        self.endpoints.retain(|_, state| state.strong_count() > 0);
        let limits = &self.store.limits;
        let addresses = &self.store.addresses;
        addresses.sweeps.advance();
        let mut unused = Unused::default();
        let mut kept = Vec::new();
        for (address, cell) in addresses.all() {
            let idle = cell.idle_sweeps();
            if cell.is_let_go() {
                if idle <= 1 && cell.ask() {
                    unused.wanted_again.push(address);
                } else {
                    kept.push((idle, address));
                }
            } else if idle > limits.idle_sweeps {
                cell.let_go();
                unused.let_go.push(address);
                kept.push((idle, address));
            }
        }
        if kept.len() > limits.max_let_go {
            kept.sort_unstable();
            for (_, address) in kept.split_off(limits.max_let_go) {
                addresses.remove(address);
                unused.forgotten.push(address);
            }
        }
        unused
    }
}
