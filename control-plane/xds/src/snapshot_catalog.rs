//! A compiled snapshot as a [`Catalog`]: parses names strictly (each resource has one spelling;
//! any other is absent) and encodes what they mean.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weft_compile::resource::{Address, Inbound};
use weft_compile::{ResourceKey, Snapshot};
use weft_proto::mesh;

use crate::body::{Body, Facts, InboundFacts};
use crate::catalog::{Catalog, Pattern, name_of};
use crate::encode;
use crate::kind::Kind;

/// The name of resources of which there is one.
pub(crate) const DEFAULT: &str = "default";

/// What compile made, and the trust anchors, which are not compiled.
pub(crate) struct SnapshotCatalog {
    pub snapshot: Arc<Snapshot>,
    pub trust: Arc<mesh::TrustBundle>,
}

impl Catalog for SnapshotCatalog {
    fn body(&self, kind: Kind, topic: &str, drained: bool) -> Option<Body> {
        let snapshot = &self.snapshot;
        match kind {
            Kind::TrustBundle => {
                (topic == DEFAULT).then(|| Body::new(kind, topic, self.trust.as_ref(), Facts::None))
            }
            Kind::MeshConfig => (topic == DEFAULT).then(|| {
                let message = encode::mesh_config(&snapshot.mesh_config());
                Body::new(kind, topic, &message, Facts::None)
            }),
            Kind::Authorization => {
                let (namespace, name) = topic.split_once('/')?;
                let policy = snapshot.authorization(namespace, name)?;
                Some(Body::new(
                    kind,
                    topic,
                    &encode::authorization(&policy),
                    Facts::None,
                ))
            }
            Kind::Inbound => {
                let (namespace, pod) = topic.split_once('/')?;
                let inbound = snapshot.inbound(namespace, pod)?;
                let message = encode::inbound(&inbound, drained);
                Some(Body::new(kind, topic, &message, facts(&inbound)))
            }
            Kind::Endpoints => {
                let (namespace, name, bucket) = bucket(topic)?;
                let bucket = snapshot.endpoints(namespace, name, bucket)?;
                let live = Facts::Live(encode::live(&bucket.endpoints));
                Some(Body::new(kind, topic, &encode::endpoints(&bucket), live))
            }
            Kind::Service => {
                let (service, from) = topic.split_once("?from=")?;
                let (namespace, name) = service.split_once('/')?;
                let service = snapshot.service(namespace, name, from)?;
                Some(Body::new(
                    kind,
                    topic,
                    &encode::service(&service),
                    Facts::None,
                ))
            }
            Kind::Address => self.address(topic),
        }
    }
}

impl SnapshotCatalog {
    fn address(&self, topic: &str) -> Option<Body> {
        let (name, namespace) = name_of(topic);
        let found = match name.parse::<SocketAddr>() {
            Ok(socket) if socket.to_string() == name => {
                self.snapshot.address(socket.ip(), socket.port())?
            }
            Ok(_) => return None,
            Err(_) => {
                let (host, port) = name.rsplit_once(':')?;
                // Only a host without dots is relative to anything.
                if namespace.is_some() && host.contains('.') {
                    return None;
                }
                let port = canonical(port)?;
                self.snapshot
                    .host(host, port, namespace.unwrap_or_default())?
            }
        };
        let live = match &found {
            Address::Workload(endpoint) => Facts::Live(encode::live([endpoint])),
            Address::Service { .. } => Facts::None,
        };
        Some(Body::new(
            Kind::Address,
            name,
            &encode::address(&found),
            live,
        ))
    }
}

fn facts(inbound: &Inbound) -> Facts {
    let name = |policy: &weft_compile::resource::PolicyRef| -> Arc<str> {
        format!("{}/{}", policy.namespace, policy.name).into()
    };
    Facts::Inbound(InboundFacts {
        service_account: Arc::clone(&inbound.service_account),
        addresses: inbound.addresses.clone().into(),
        policies: inbound.policies.iter().map(name).collect(),
        terminating: inbound.terminating,
    })
}

/// `namespace/name/bucket`.
fn bucket(topic: &str) -> Option<(&str, &str, u32)> {
    let (service, bucket) = topic.rsplit_once('/')?;
    let (namespace, name) = service.split_once('/')?;
    Some((namespace, name, canonical(bucket)?))
}

/// A number as it is printed: no sign, no leading zero.
fn canonical<N: std::str::FromStr + ToString>(text: &str) -> Option<N> {
    let number: N = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The topics that a difference between two snapshots can reach.
pub(crate) fn patterns(key: &ResourceKey) -> Vec<Pattern> {
    match key {
        ResourceKey::Address(ip) => vec![Pattern::prefix(Kind::Address, ip_prefix(*ip))],
        ResourceKey::Host { namespace, name } => host_prefixes(namespace, name),
        ResourceKey::Service {
            namespace,
            name,
            from,
        } => {
            let name = format!("{namespace}/{name}?from=");
            vec![match from {
                Some(from) => Pattern::exact(Kind::Service, format!("{name}{from}")),
                None => Pattern::prefix(Kind::Service, name),
            }]
        }
        ResourceKey::Endpoints {
            namespace,
            name,
            bucket,
        } => {
            let topic = format!("{namespace}/{name}/{bucket}");
            vec![Pattern::exact(Kind::Endpoints, topic)]
        }
        ResourceKey::Inbound { namespace, pod } => {
            vec![Pattern::exact(Kind::Inbound, format!("{namespace}/{pod}"))]
        }
        ResourceKey::Authorization { namespace, name } => {
            let topic = format!("{namespace}/{name}");
            vec![Pattern::exact(Kind::Authorization, topic)]
        }
        ResourceKey::MeshConfig => vec![Pattern::exact(Kind::MeshConfig, DEFAULT)],
    }
}

fn ip_prefix(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{ip}:"),
        IpAddr::V6(ip) => format!("[{ip}]:"),
    }
}

/// Every form of a service's host.
fn host_prefixes(namespace: &str, name: &str) -> Vec<Pattern> {
    let forms = [
        format!("{name}:"),
        format!("{name}.{namespace}:"),
        format!("{name}.{namespace}.svc:"),
        format!("{name}.{namespace}.svc."),
    ];
    let patterns = forms.map(|form| Pattern::prefix(Kind::Address, form));
    patterns.into()
}
