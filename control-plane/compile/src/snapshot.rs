//! All resources at one moment, looked up by name. Immutable for readers, cheap to copy.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use weft_identity::TrustDomain;

use crate::resource::{Address, Authorization, Endpoints, Inbound, MeshConfig, Service, Workload};
use crate::sharded::Sharded;

/// Namespace and name.
pub(crate) type Name = (Arc<str>, Arc<str>);

/// What a [`Delta`](crate::Delta) says is different.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKey {
    /// `Address` of this address on any port.
    Address(IpAddr),
    /// `Address` of a host that names this service, in any of its forms, on any port.
    Host {
        /// The service's namespace.
        namespace: Arc<str>,
        /// The service's name.
        name: Arc<str>,
    },
    /// `Service`, as seen from a namespace.
    Service {
        /// The service's namespace.
        namespace: Arc<str>,
        /// The service's name.
        name: Arc<str>,
        /// The client's namespace; `None`: of all clients whose namespace has no routes of its own
        /// for this service.
        from: Option<Arc<str>>,
    },
    /// One bucket of `Endpoints`.
    Endpoints {
        /// The service's namespace.
        namespace: Arc<str>,
        /// The service's name.
        name: Arc<str>,
        /// The bucket.
        bucket: u32,
    },
    /// `Inbound` of a pod.
    Inbound {
        /// The pod's namespace.
        namespace: Arc<str>,
        /// The pod's name.
        pod: Arc<str>,
    },
    /// `Authorization`.
    Authorization {
        /// The policy's namespace.
        namespace: Arc<str>,
        /// The policy's name.
        name: Arc<str>,
    },
    /// `MeshConfig`.
    MeshConfig,
}

/// All resources.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) services: Sharded<Name, Arc<ServiceViews>>,
    pub(crate) endpoints: Sharded<Name, Arc<[Arc<Endpoints>]>>,
    pub(crate) virtual_addresses: Sharded<IpAddr, Name>,
    pub(crate) workloads: Sharded<IpAddr, Arc<Workload>>,
    pub(crate) inbounds: Sharded<Name, Arc<Inbound>>,
    pub(crate) authorizations: Sharded<Name, Arc<Authorization>>,
    pub(crate) mesh_config: Arc<MeshConfig>,
}

/// A service as its clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceViews {
    /// For clients without routes of their own.
    pub(crate) shared: Arc<Service>,
    /// By client namespace, ascending.
    pub(crate) own: Vec<(Arc<str>, Arc<Service>)>,
}

impl ServiceViews {
    pub(crate) fn from(&self, namespace: &str) -> &Arc<Service> {
        self.own
            .iter()
            .find(|(client, _)| **client == *namespace)
            .map_or(&self.shared, |(_, service)| service)
    }
}

fn name(namespace: &str, name: &str) -> Name {
    (namespace.into(), name.into())
}

impl Snapshot {
    pub(crate) fn empty(trust_domain: TrustDomain, mesh_config: MeshConfig) -> Self {
        Self {
            trust_domain,
            services: Sharded::default(),
            endpoints: Sharded::default(),
            virtual_addresses: Sharded::default(),
            workloads: Sharded::default(),
            inbounds: Sharded::default(),
            authorizations: Sharded::default(),
            mesh_config: Arc::new(mesh_config),
        }
    }

    /// The trust domain that all identities here belong to.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Who is behind `ip:port`. `None`: nobody.
    #[must_use]
    pub fn address(&self, ip: IpAddr, port: u16) -> Option<Address> {
        match self.virtual_addresses.get(&ip) {
            Some((namespace, name)) => self.service_port(namespace, name, port),
            None => self.workloads.get(&ip)?.at(ip, port),
        }
    }

    /// Who is behind `host:port` for a client of namespace `from`. A host is the name of a service
    /// as its DNS has it: `name`, `name.namespace`, `name.namespace.svc` or
    /// `name.namespace.svc.cluster.local`.
    #[must_use]
    pub fn host(&self, host: &str, port: u16, from: &str) -> Option<Address> {
        let (namespace, name) = self.service_of_host(host, from)?;
        self.service_port(namespace, name, port)
    }

    /// The service that a host names for a client of namespace `from`, whether it exists or not.
    #[must_use]
    pub fn service_of_host<'a>(&self, host: &'a str, from: &'a str) -> Option<(&'a str, &'a str)> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let mut parts = host.splitn(4, '.');
        let name = parts.next().filter(|name| !name.is_empty())?;
        let namespace = parts.next().unwrap_or(from);
        let in_cluster = match (parts.next(), parts.next()) {
            (None, None) | (Some("svc"), None) => true,
            (Some("svc"), Some(domain)) => domain == CLUSTER_DOMAIN,
            _ => false,
        };
        in_cluster.then_some((namespace, name))
    }

    fn service_port(&self, namespace: &str, service: &str, port: u16) -> Option<Address> {
        let views = self.services.get(&name(namespace, service))?;
        let shared = &views.shared;
        shared.ports.iter().find(|p| p.port == port)?;
        Some(Address::Service {
            namespace: Arc::clone(&shared.namespace),
            name: Arc::clone(&shared.name),
            port,
        })
    }

    /// The service `namespace/service` as clients of namespace `from` see it. All namespaces
    /// without routes of their own share one `Arc`.
    #[must_use]
    pub fn service(&self, namespace: &str, service: &str, from: &str) -> Option<Arc<Service>> {
        let views = self.services.get(&name(namespace, service))?;
        Some(Arc::clone(views.from(from)))
    }

    /// One bucket of a service's endpoints. `None`: there is no such service or bucket.
    #[must_use]
    pub fn endpoints(&self, namespace: &str, service: &str, bucket: u32) -> Option<Arc<Endpoints>> {
        let buckets = self.endpoints.get(&name(namespace, service))?;
        buckets.get(usize::try_from(bucket).ok()?).cloned()
    }

    /// What the proxy of a pod needs. `None`: no such pod in the mesh.
    #[must_use]
    pub fn inbound(&self, namespace: &str, pod: &str) -> Option<Arc<Inbound>> {
        self.inbounds.get(&name(namespace, pod)).cloned()
    }

    /// One policy.
    #[must_use]
    pub fn authorization(&self, namespace: &str, policy: &str) -> Option<Arc<Authorization>> {
        self.authorizations.get(&name(namespace, policy)).cloned()
    }

    /// What holds for every proxy.
    #[must_use]
    pub fn mesh_config(&self) -> Arc<MeshConfig> {
        Arc::clone(&self.mesh_config)
    }
}

/// Changes, made by the compiler only.
impl Snapshot {
    /// Replaces a service and names the views of it that are now different.
    pub(crate) fn put_service(
        &mut self,
        name: &Name,
        old: Option<&ServiceViews>,
        new: Option<Arc<ServiceViews>>,
        touched: &mut BTreeSet<ResourceKey>,
    ) {
        let view = |from: Option<&Arc<str>>| ResourceKey::Service {
            namespace: name.0.clone(),
            name: name.1.clone(),
            from: from.cloned(),
        };
        if old.map(|views| &views.shared) != new.as_ref().map(|views| &views.shared) {
            touched.insert(view(None));
        }
        let clients = |views: Option<&ServiceViews>| -> BTreeSet<Arc<str>> {
            let own = views.into_iter().flat_map(|views| &views.own);
            own.map(|(client, _)| client.clone()).collect()
        };
        for client in &clients(old) | &clients(new.as_deref()) {
            let seen =
                |views: Option<&ServiceViews>| views.map(|views| views.from(&client).clone());
            if seen(old) != seen(new.as_deref()) {
                touched.insert(view(Some(&client)));
            }
        }
        let numbers = |views: Option<&ServiceViews>| {
            views.map(|views| {
                views
                    .shared
                    .ports
                    .iter()
                    .map(|p| p.port)
                    .collect::<Vec<_>>()
            })
        };
        if numbers(old) != numbers(new.as_deref()) {
            let (namespace, service) = name.clone();
            touched.insert(ResourceKey::Host {
                namespace,
                name: service,
            });
            let addresses = old.into_iter().chain(new.as_deref());
            touched.extend(
                addresses
                    .flat_map(|views| &views.shared.addresses)
                    .map(|address| ResourceKey::Address(*address)),
            );
        }
        self.services.put(name.clone(), new);
    }

    /// Replaces a service's buckets and names those that are now different. Buckets that are equal
    /// stay the ones that they were.
    pub(crate) fn put_endpoints(
        &mut self,
        name: &Name,
        new: Option<Vec<Arc<Endpoints>>>,
        touched: &mut BTreeSet<ResourceKey>,
    ) {
        let old = self.endpoints.get(name).cloned();
        let old = old.as_deref().unwrap_or_default();
        let mut buckets = new.unwrap_or_default();
        for nth in 0..old.len().max(buckets.len()) {
            match (old.get(nth), buckets.get_mut(nth)) {
                (Some(old), Some(new)) if old == new => *new = Arc::clone(old),
                _ => {
                    touched.insert(ResourceKey::Endpoints {
                        namespace: name.0.clone(),
                        name: name.1.clone(),
                        // Far below 2³².
                        bucket: u32::try_from(nth).unwrap_or(u32::MAX),
                    });
                }
            }
        }
        let buckets = (!buckets.is_empty()).then(|| buckets.into());
        self.endpoints.put(name.clone(), buckets);
    }

    /// Whether there is such a resource. A view of a service is there as long as the service is.
    pub(crate) fn contains(&self, key: &ResourceKey) -> bool {
        match key {
            ResourceKey::Address(ip) => {
                self.virtual_addresses.get(ip).is_some() || self.workloads.get(ip).is_some()
            }
            ResourceKey::Host { namespace, name }
            | ResourceKey::Service {
                namespace, name, ..
            } => self
                .services
                .get(&(namespace.clone(), name.clone()))
                .is_some(),
            ResourceKey::Endpoints {
                namespace,
                name,
                bucket,
            } => self.endpoints(namespace, name, *bucket).is_some(),
            ResourceKey::Inbound { namespace, pod } => self.inbound(namespace, pod).is_some(),
            ResourceKey::Authorization { namespace, name } => {
                self.authorization(namespace, name).is_some()
            }
            ResourceKey::MeshConfig => true,
        }
    }
}

/// The domain under which services have their names.
const CLUSTER_DOMAIN: &str = "cluster.local";
