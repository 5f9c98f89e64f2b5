//! Services and the buckets of their endpoints. Two things can be in force of a service: its backends
//! (who is behind its ports, and the traffic policy), which need its own buckets, and its routes, which
//! need the backends of all services that they lead to. Routes are only needed of services that an address
//! leads to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_proto::mesh;
use weft_proxy_config::{
    BackendSnapshot, Endpoint, Invalid, Port, ServiceCell, ServiceName, Writer,
};

use super::service_name;
use crate::decode::{self, ServiceSpec};
use crate::kind::Kind;
use crate::resource::{Active, Progress, Update, Wire};

/// A state of a service; None: it does not exist.
type Body = Option<(Wire, ServiceSpec)>;

#[derive(Debug, Default)]
struct Entry {
    /// What the control plane said last; None: nothing yet.
    latest: Option<Body>,
    /// The state whose backends are in force.
    backends: Option<Body>,
    /// The state whose routes are in force.
    routes: Option<Body>,
    /// There since the first routes.
    cell: Option<Arc<ServiceCell>>,
}

#[derive(Debug)]
struct Bucket {
    /// None: there is no such bucket.
    wire: Option<Wire>,
    endpoints: Vec<Arc<Endpoint>>,
}

#[derive(Debug, Default)]
pub(super) struct Services {
    entries: HashMap<ServiceName, Entry>,
    buckets: HashMap<ServiceName, BTreeMap<u32, Bucket>>,
    /// Services of which a bucket has changed.
    changed: BTreeSet<ServiceName>,
}

fn version(body: &Body) -> Option<&str> {
    body.as_ref().map(|(wire, _)| wire.version.as_str())
}

fn same(a: &Option<Body>, b: &Option<Body>) -> bool {
    a.as_ref().map(version) == b.as_ref().map(version)
}

impl Services {
    pub(super) fn apply(&mut self, update: Update, writer: &mut Writer) -> Result<(), Invalid> {
        let name = service_name(&update.name)?;
        let body = update
            .body
            .map(|wire| {
                let message = decode::message::<mesh::Service>(&wire.bytes)?;
                let spec = decode::service(&name, message, &mut |key| writer.backend(&key))?;
                Ok::<_, Invalid>((wire, spec))
            })
            .transpose()?;
        self.entries.entry(name).or_default().latest = Some(body);
        Ok(())
    }

    pub(super) fn apply_bucket(
        &mut self,
        update: Update,
        writer: &mut Writer,
    ) -> Result<(), Invalid> {
        let fault = || Invalid::new("", "the name is not NAMESPACE/NAME/BUCKET");
        let (service, number) = update.name.rsplit_once('/').ok_or_else(fault)?;
        let number: u32 = number.parse().map_err(|_| fault())?;
        let service = service_name(service)?;
        let endpoints = match &update.body {
            None => Vec::new(),
            Some(wire) => decode::endpoints(decode::message(&wire.bytes)?, &mut |address| {
                writer.endpoint_state(&service, address)
            })?,
        };
        let bucket = Bucket {
            wire: update.body,
            endpoints,
        };
        self.buckets
            .entry(service.clone())
            .or_default()
            .insert(number, bucket);
        self.changed.insert(service);
        Ok(())
    }

    /// Puts in force what is whole; `roots` are the services whose routes are needed.
    pub(super) fn settle(&mut self, roots: &BTreeSet<ServiceName>, writer: &mut Writer) {
        let names: Vec<_> = self.entries.keys().cloned().collect();
        for name in &names {
            let first = self.entries[name].backends.is_none();
            if (first || !roots.contains(name)) && self.has_new_backends(name) {
                self.publish_backends(name, writer);
            }
        }
        for name in &names {
            if roots.contains(name) && self.missing(name).is_empty() {
                self.publish_routes(name, writer);
            }
        }
    }

    /// Puts changed buckets in force where only they have changed.
    pub(super) fn publish_changed(&mut self, writer: &Writer) {
        for name in std::mem::take(&mut self.changed) {
            if let Some(Some((_, spec))) = self.entries.get(&name).and_then(|e| e.backends.as_ref())
            {
                self.publish_endpoints(&name, spec, writer);
            }
        }
    }

    /// The newest state differs from the one in force, and its buckets are here.
    fn has_new_backends(&self, name: &ServiceName) -> bool {
        let entry = &self.entries[name];
        !same(&entry.backends, &entry.latest) && self.missing_buckets(name).is_empty()
    }

    fn missing_buckets(&self, name: &ServiceName) -> Vec<String> {
        let latest = self
            .entries
            .get(name)
            .and_then(|entry| entry.latest.as_ref());
        let Some(Some((_, spec))) = latest else {
            return Vec::new();
        };
        let here = self.buckets.get(name);
        (0..spec.buckets)
            .filter(|number| here.is_none_or(|here| !here.contains_key(number)))
            .map(|number| format!("endpoints {name}/{number}"))
            .collect()
    }

    /// What the newest routes of a service wait for.
    fn missing(&self, name: &ServiceName) -> Vec<String> {
        let mut missing = self.missing_buckets(name);
        match self.entries.get(name).map(|entry| &entry.latest) {
            Some(Some(Some((_, spec)))) => {
                for other in spec.refers_to.iter().filter(|other| *other != name) {
                    match self.entries.get(other) {
                        Some(entry) if entry.backends.is_some() => {}
                        Some(entry) if entry.latest.is_some() => {
                            missing.extend(self.missing_buckets(other));
                        }
                        _ => missing.push(format!("service {other}")),
                    }
                }
            }
            Some(Some(None)) => {}
            Some(None) | None => missing.push(format!("service {name}")),
        }
        missing
    }

    fn publish_backends(&mut self, name: &ServiceName, writer: &Writer) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let former = std::mem::replace(&mut entry.backends, entry.latest.clone());
        let latest = entry.latest.clone().flatten();
        let gone = former.flatten().map(|(_, spec)| spec.service);
        for port in gone.iter().flat_map(|service| &service.ports) {
            let stays = latest
                .as_ref()
                .is_some_and(|(_, spec)| spec.service.port(port.port).is_some());
            if !stays {
                writer.set_endpoints(&port.own, BackendSnapshot::empty());
            }
        }
        if let Some((_, spec)) = &latest {
            self.publish_endpoints(name, spec, writer);
        }
        self.changed.remove(name);
    }

    fn publish_endpoints(&self, name: &ServiceName, spec: &ServiceSpec, writer: &Writer) {
        let endpoints: Vec<&Arc<Endpoint>> = self
            .buckets
            .get(name)
            .into_iter()
            .flat_map(BTreeMap::values)
            .flat_map(|bucket| &bucket.endpoints)
            .collect();
        for port in &spec.service.ports {
            let Port { own, protocol, .. } = port;
            let snapshot = BackendSnapshot::new(
                endpoints.iter().map(|endpoint| Arc::clone(endpoint)),
                port.port,
                Arc::clone(&spec.service.policy),
                *protocol,
            );
            writer.set_endpoints(own, snapshot);
        }
    }

    fn publish_routes(&mut self, name: &ServiceName, writer: &mut Writer) {
        let entry = &self.entries[name];
        if same(&entry.routes, &entry.latest) {
            return;
        }
        if !same(&entry.backends, &entry.latest) {
            self.publish_backends(name, writer);
        }
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        if let Some(Some((_, spec))) = &entry.latest {
            entry.cell = Some(writer.set_service(Arc::clone(&spec.service)));
        }
        entry.routes = entry.latest.clone();
    }

    /// The place of a service whose routes are in force.
    pub(super) fn cell(&self, name: &ServiceName) -> Option<Arc<ServiceCell>> {
        self.entries.get(name)?.cell.clone()
    }

    /// Known not to exist, and never seen.
    pub(super) fn is_absent(&self, name: &ServiceName) -> bool {
        self.entries
            .get(name)
            .is_some_and(|entry| matches!(entry.latest, Some(None)) && entry.cell.is_none())
    }

    pub(super) fn progress(&self, resource: &str, roots: &BTreeSet<ServiceName>) -> Progress {
        let entry = service_name(resource)
            .ok()
            .and_then(|name| self.entries.get_key_value(&name));
        let Some((name, entry)) = entry else {
            return Progress::InForce;
        };
        let (in_force, missing) = if roots.contains(name) {
            (&entry.routes, self.missing(name))
        } else {
            (&entry.backends, self.missing_buckets(name))
        };
        // Nothing before it is in force: there is nothing to be replaced.
        if in_force.is_none() || same(in_force, &entry.latest) {
            Progress::InForce
        } else {
            Progress::WaitingFor(missing.join(", "))
        }
    }

    /// The services that are needed: `roots` and those that their routes lead to, now or soon.
    pub(super) fn needed(&self, roots: &BTreeSet<ServiceName>) -> BTreeSet<ServiceName> {
        let mut needed = roots.clone();
        let referred = roots
            .iter()
            .filter_map(|root| self.entries.get(root))
            .flat_map(|entry| [&entry.latest, &entry.routes])
            .filter_map(|body| body.as_ref()?.as_ref())
            .flat_map(|(_, spec)| spec.refers_to.iter().cloned());
        needed.extend(referred);
        needed
    }

    /// Names of the buckets of `services`, now or soon.
    pub(super) fn bucket_names(&self, services: &BTreeSet<ServiceName>) -> BTreeSet<String> {
        services
            .iter()
            .flat_map(|name| {
                let count = self.bucket_count(name);
                (0..count).map(move |number| format!("{name}/{number}"))
            })
            .collect()
    }

    fn bucket_count(&self, name: &ServiceName) -> u32 {
        let Some(entry) = self.entries.get(name) else {
            return 0;
        };
        [&entry.latest, &entry.backends]
            .into_iter()
            .filter_map(|body| Some(body.as_ref()?.as_ref()?.1.buckets))
            .max()
            .unwrap_or(0)
    }

    pub(super) fn forget_all_but(&mut self, roots: &BTreeSet<ServiceName>) {
        let needed = self.needed(roots);
        self.entries.retain(|name, _| needed.contains(name));
        self.buckets.retain(|name, _| needed.contains(name));
        let names: Vec<_> = self.buckets.keys().cloned().collect();
        for name in names {
            let count = self.bucket_count(&name);
            if let Some(buckets) = self.buckets.get_mut(&name) {
                let before = buckets.len();
                buckets.retain(|number, _| *number < count);
                if buckets.len() != before {
                    self.changed.insert(name);
                }
            }
        }
    }

    pub(super) fn active(&self, namespace: &str) -> Vec<Active> {
        let buckets = self.buckets.iter().flat_map(|(name, buckets)| {
            buckets.iter().filter_map(move |(number, bucket)| {
                Some(Active {
                    kind: Kind::Endpoints,
                    name: format!("{name}/{number}"),
                    wire: bucket.wire.clone()?,
                })
            })
        });
        let services = self.entries.iter().filter_map(|(name, entry)| {
            let (wire, _) = entry
                .routes
                .as_ref()
                .or(entry.backends.as_ref())?
                .as_ref()?;
            Some(Active {
                kind: Kind::Service,
                name: format!("{name}?from={namespace}"),
                wire: wire.clone(),
            })
        });
        buckets.chain(services).collect()
    }
}
