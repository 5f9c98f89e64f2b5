//! When what the control plane sends takes effect: nothing half-done is ever active.
//!
//! Updates go in; what is whole goes to the store. A service waits for the services and buckets that it
//! refers to, an address for its service, an inbound for exactly the policies that it names; until then
//! what was there before stays. What must be subscribed to for that follows from what is here, see
//! [`Activation::desired`]. No I/O and no clock: the stream asks how far things are, and decides how long
//! it waits.

mod addresses;
mod inbound;
mod services;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use weft_certs::TrustStore;
use weft_identity::PodRef;
use weft_proto::mesh;
use weft_proxy_config::{Invalid, ServiceName, Unused, Writer};

use crate::decode;
use crate::kind::Kind;
use crate::resource::{Active, Progress, Update, Wire};
use addresses::Addresses;
use inbound::InboundState;
use services::Services;

/// The name of what there is one of.
const DEFAULT: &str = "default";

/// Names by type.
pub(crate) type Names = BTreeMap<Kind, BTreeSet<String>>;

/// All that is known of the mesh, and how much of it is in force.
#[derive(Debug)]
pub(crate) struct Activation {
    writer: Writer,
    trust: Arc<TrustStore>,
    pod: PodRef,
    trust_bundle: Option<Wire>,
    mesh: Option<Wire>,
    inbound: InboundState,
    addresses: Addresses,
    services: Services,
}

impl Activation {
    /// Nothing is known yet.
    pub fn new(writer: Writer, trust: Arc<TrustStore>, pod: PodRef) -> Self {
        Self {
            writer,
            trust,
            pod,
            trust_bundle: None,
            mesh: None,
            inbound: InboundState::default(),
            addresses: Addresses::default(),
            services: Services::default(),
        }
    }

    /// The store's writer.
    pub fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// Somebody wants to know what is behind an address.
    pub fn want(&mut self, address: SocketAddr) {
        self.addresses.want(address);
        self.settle();
    }

    /// Lets go of what has not been used for long.
    pub fn sweep(&mut self) -> Unused {
        let unused = self.writer.sweep();
        for address in &unused.let_go {
            self.addresses.let_go(*address);
        }
        for address in &unused.wanted_again {
            self.addresses.want(*address);
        }
        self.settle();
        unused
    }

    /// Takes in the updates of one response and puts in force what is whole. Removals come last. Returns
    /// what cannot be read, by name; of that the last good one stays.
    pub fn apply(
        &mut self,
        kind: Kind,
        updates: Vec<Update>,
        removed: Vec<String>,
    ) -> Vec<(String, Invalid)> {
        let mut refused = Vec::new();
        for update in updates {
            let name = update.name.clone();
            if let Err(fault) = self.apply_one(kind, update) {
                refused.push((name, fault));
            }
        }
        self.settle();
        let any_removed = !removed.is_empty();
        for name in removed {
            let gone = Update {
                name: name.clone(),
                body: None,
            };
            if let Err(fault) = self.apply_one(kind, gone) {
                refused.push((name, fault));
            }
        }
        if any_removed {
            self.settle();
        }
        refused
    }

    fn apply_one(&mut self, kind: Kind, update: Update) -> Result<(), Invalid> {
        match kind {
            Kind::TrustBundle => self.apply_trust_bundle(update.body),
            Kind::MeshConfig => self.apply_mesh(update.body),
            Kind::Authorization => self.inbound.apply_policy(&update.name, update.body),
            Kind::Inbound => self.inbound.apply(update.body),
            Kind::Endpoints => self.services.apply_bucket(update, &mut self.writer),
            Kind::Service => self.services.apply(update, &mut self.writer),
            Kind::Address => self.addresses.apply(update, &mut self.writer),
        }
    }

    /// Trust is never taken away altogether: a bundle that is gone changes nothing.
    fn apply_trust_bundle(&mut self, body: Option<Wire>) -> Result<(), Invalid> {
        if let Some(wire) = body {
            let bundle = decode::trust_bundle(decode::message(&wire.bytes)?)?;
            self.trust.replace(bundle);
            self.trust_bundle = Some(wire);
        }
        Ok(())
    }

    fn apply_mesh(&mut self, body: Option<Wire>) -> Result<(), Invalid> {
        if let Some(wire) = body {
            let mesh = decode::message::<mesh::MeshConfig>(&wire.bytes)?;
            self.writer.set_mesh(decode::mesh_config(mesh)?);
            self.mesh = Some(wire);
        }
        Ok(())
    }

    /// Puts in force what has become whole, and forgets what nothing refers to any more.
    fn settle(&mut self) {
        self.inbound.settle(&self.writer);
        let roots = self.addresses.services();
        self.services.settle(&roots, &mut self.writer);
        self.addresses.settle(&self.services, &self.writer);
        // An address that moved on may have let go of its former service.
        self.services.forget_all_but(&self.addresses.services());
        self.services.publish_changed(&self.writer);
    }

    /// Takes in what was in force once, at a time when nothing is known yet. What cannot be read any more
    /// is left out.
    pub fn restore(&mut self, resources: Vec<Active>) {
        for Active { kind, name, wire } in resources {
            if let (Kind::Address, Ok(address)) = (kind, name.parse()) {
                self.addresses.want(address);
            }
            let body = Some(wire);
            if let Err(fault) = self.apply_one(kind, Update { name, body }) {
                tracing::warn!(%kind, %fault, "a cached resource cannot be read");
            }
        }
        self.settle();
    }

    /// How far the newest state of a name is.
    pub fn progress(&self, kind: Kind, name: &str) -> Progress {
        match kind {
            Kind::Inbound => self.inbound.progress(),
            Kind::Service => self.services.progress(name, &self.addresses.services()),
            Kind::Address => self.addresses.progress(name),
            Kind::TrustBundle | Kind::MeshConfig | Kind::Authorization | Kind::Endpoints => {
                Progress::InForce
            }
        }
    }

    /// All names that should be subscribed to.
    pub fn desired(&self) -> Names {
        let roots = self.addresses.services();
        let own = [
            (Kind::TrustBundle, DEFAULT.to_owned()),
            (Kind::MeshConfig, DEFAULT.to_owned()),
            (Kind::Inbound, self.pod.to_string()),
        ];
        let mut names = Names::new();
        for (kind, name) in own {
            names.entry(kind).or_default().insert(name);
        }
        names.insert(Kind::Authorization, self.inbound.policy_names());
        names.insert(Kind::Address, self.addresses.names());
        let namespace = self.pod.namespace();
        let services = self.services.needed(&roots);
        let resource = |name: &ServiceName| format!("{name}?from={namespace}");
        names.insert(Kind::Service, services.iter().map(resource).collect());
        names.insert(Kind::Endpoints, self.services.bucket_names(&services));
        names
    }

    /// What is in force, whole: fed back in, it gives the same state.
    pub fn active(&self) -> Vec<Active> {
        let one = |kind, name: String, wire: &Option<Wire>| {
            wire.clone().map(|wire| Active { kind, name, wire })
        };
        let mut all: Vec<Active> = [
            one(Kind::TrustBundle, DEFAULT.to_owned(), &self.trust_bundle),
            one(Kind::MeshConfig, DEFAULT.to_owned(), &self.mesh),
        ]
        .into_iter()
        .flatten()
        .collect();
        all.extend(self.inbound.active(&self.pod.to_string()));
        all.extend(self.services.active(self.pod.namespace()));
        all.extend(self.addresses.active());
        all
    }
}

/// `namespace/name?from=…` or `namespace/name` → the service.
fn service_name(resource: &str) -> Result<ServiceName, Invalid> {
    let name = resource.split_once('?').map_or(resource, |(name, _)| name);
    match name.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.contains('/') => {
            Ok(ServiceName {
                namespace: namespace.into(),
                name: name.into(),
            })
        }
        _ => Err(Invalid::new("", "the name is not NAMESPACE/NAME")),
    }
}
