//! What is behind the addresses that are in use. An address takes effect together with its service.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use weft_proxy_config::{
    AddressTarget, Backend, BackendKey, BackendSnapshot, Invalid, ServiceName, Writer,
};

use super::services::Services;
use crate::decode::{self, AddressSpec};
use crate::kind::Kind;
use crate::resource::{Active, Progress, Update, Wire};

/// What the control plane said last.
#[derive(Debug, Clone)]
enum Said {
    Nobody,
    Service { name: ServiceName, port: u16 },
    Workload(Arc<Backend>),
}

#[derive(Debug, Default)]
struct Entry {
    said: Option<(Option<Wire>, Said)>,
    /// What is in force, which may be older.
    published: Option<(Option<Wire>, Said)>,
    /// In force is a service of the same name that turned out not to exist.
    as_nobody: bool,
}

#[derive(Debug, Default)]
pub(super) struct Addresses {
    entries: HashMap<SocketAddr, Entry>,
}

impl Addresses {
    /// Whoever waits for it is told anew by the next [`Self::settle`], even if nothing changed.
    pub(super) fn want(&mut self, address: SocketAddr) {
        self.entries.entry(address).or_default().published = None;
    }

    pub(super) fn let_go(&mut self, address: SocketAddr) {
        self.entries.remove(&address);
    }

    pub(super) fn apply(&mut self, update: Update, writer: &mut Writer) -> Result<(), Invalid> {
        let address: SocketAddr = update
            .name
            .parse()
            .map_err(|_| Invalid::new("", "the name is not IP:PORT"))?;
        let Some(entry) = self.entries.get_mut(&address) else {
            return Ok(());
        };
        let said = match &update.body {
            None => Said::Nobody,
            Some(wire) => match decode::address(decode::message(&wire.bytes)?)? {
                AddressSpec::Service { name, port } => Said::Service { name, port },
                AddressSpec::Workload { endpoint, port } => {
                    Said::Workload(workload(*endpoint, port, writer)?)
                }
            },
        };
        entry.said = Some((update.body, said));
        Ok(())
    }

    pub(super) fn settle(&mut self, services: &Services, writer: &Writer) {
        for (address, entry) in &mut self.entries {
            let Some((wire, said)) = &entry.said else {
                continue;
            };
            let version = |wire: &Option<Wire>| wire.as_ref().map(|wire| wire.version.clone());
            let in_force = entry
                .published
                .as_ref()
                .is_some_and(|(published, _)| version(published) == version(wire));
            let (target, as_nobody) = match said {
                Said::Nobody => (AddressTarget::Nobody, false),
                Said::Workload(backend) => (AddressTarget::Workload(Arc::clone(backend)), false),
                Said::Service { name, port } => match services.cell(name) {
                    Some(service) => {
                        let port = *port;
                        (AddressTarget::Service { service, port }, false)
                    }
                    None if services.is_absent(name) => (AddressTarget::Nobody, true),
                    None => continue,
                },
            };
            if !in_force || entry.as_nobody != as_nobody {
                writer.set_address(*address, target);
                entry.published = entry.said.clone();
                entry.as_nobody = as_nobody;
            }
        }
    }

    pub(super) fn progress(&self, name: &str) -> Progress {
        let entry = name
            .parse::<SocketAddr>()
            .ok()
            .and_then(|address| self.entries.get(&address));
        let Some(Entry {
            said: Some((said, Said::Service { name, .. })),
            published: Some((published, _)),
            ..
        }) = entry
        else {
            return Progress::InForce;
        };
        if said == published {
            Progress::InForce
        } else {
            Progress::WaitingFor(format!("service {name}"))
        }
    }

    /// Services that addresses lead to now or are about to.
    pub(super) fn services(&self) -> BTreeSet<ServiceName> {
        self.entries
            .values()
            .flat_map(|entry| [&entry.said, &entry.published])
            .flatten()
            .filter_map(|(_, said)| match said {
                Said::Service { name, .. } => Some(name.clone()),
                Said::Nobody | Said::Workload(_) => None,
            })
            .collect()
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        self.entries.keys().map(ToString::to_string).collect()
    }

    pub(super) fn active(&self) -> Vec<Active> {
        self.entries
            .iter()
            .filter_map(|(address, entry)| {
                let (wire, _) = entry.published.as_ref()?;
                Some(Active {
                    kind: Kind::Address,
                    name: address.to_string(),
                    wire: wire.clone()?,
                })
            })
            .collect()
    }
}

/// The backend of a pod's own address, up to date at once: it has nothing to wait for.
fn workload(
    endpoint: weft_proto::mesh::Endpoint,
    port: u16,
    writer: &mut Writer,
) -> Result<Arc<Backend>, Invalid> {
    let pod = ServiceName {
        namespace: endpoint.namespace.as_str().into(),
        name: endpoint.address.as_str().into(),
    };
    let endpoint = decode::workload(endpoint, port, &mut |address| {
        writer.endpoint_state(&pod, address)
    })?;
    let backend = writer.backend(&BackendKey {
        namespace: pod.namespace,
        name: pod.name,
        port,
    });
    let protocol = endpoint
        .ports
        .first()
        .map_or_else(Default::default, |p| p.protocol);
    let snapshot = BackendSnapshot::new([Arc::new(endpoint)], 0, Arc::default(), protocol);
    writer.set_endpoints(&backend, snapshot);
    Ok(backend)
}
