//! Kubernetes' own objects, projected to the few fields that a mesh needs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::membership::{self, INJECT};

/// Labels or annotations.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Namespace {
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.annotations`.
    pub annotations: Labels,
}

impl Namespace {
    /// Its new pods get sidecars, unless they say otherwise themselves.
    #[must_use]
    pub fn is_in_mesh(&self) -> bool {
        membership::asked_by_namespace(self.labels.get(INJECT).map(|value| &**value))
    }
}

/// A service account; that it exists is all there is to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServiceAccount {}

/// TCP or UDP. SCTP is not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Transport {
    /// TCP, the default.
    #[default]
    Tcp,
    /// UDP: known, never proxied.
    Udp,
}

/// A `Service`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Service {
    /// `spec.type`.
    pub kind: ServiceType,
    /// `spec.clusterIPs`, either family; empty for a headless service.
    pub cluster_ips: Vec<IpAddr>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `spec.selector`; empty: endpoints come from elsewhere.
    pub selector: Labels,
    /// `metadata.annotations`.
    pub annotations: Labels,
    /// Wishes that proxies do not follow.
    pub not_followed: Vec<NotFollowed>,
}

/// A field of a service that Kubernetes follows and the mesh does not, where it says more than its
/// default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NotFollowed {
    /// `sessionAffinity: ClientIP`.
    SessionAffinity,
    /// `internalTrafficPolicy: Local`.
    InternalTrafficPolicy,
    /// `trafficDistribution`, whatever it is.
    TrafficDistribution,
}

impl NotFollowed {
    /// The field, in `spec`.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::SessionAffinity => "sessionAffinity",
            Self::InternalTrafficPolicy => "internalTrafficPolicy",
            Self::TrafficDistribution => "trafficDistribution",
        }
    }
}

/// `spec.type` of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum ServiceType {
    /// `ClusterIP`.
    #[default]
    ClusterIp,
    /// `NodePort`.
    NodePort,
    /// `LoadBalancer`.
    LoadBalancer,
    /// `ExternalName`, with the name.
    ExternalName(Arc<str>),
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    /// `name`; empty where the only port has none.
    pub name: Arc<str>,
    /// `port`.
    pub port: u16,
    /// `targetPort`; the port's own number where the user left it out.
    pub target: TargetPort,
    /// `protocol`.
    pub transport: Transport,
    /// `appProtocol`, as written.
    pub app_protocol: Option<Arc<str>>,
}

/// `targetPort`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum TargetPort {
    /// A number.
    Number(u16),
    /// The name of a container port.
    Name(Arc<str>),
}

/// An `EndpointSlice`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EndpointSlice {
    /// The service of its own namespace it belongs to (label `kubernetes.io/service-name`).
    pub service: Arc<str>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// The ports, the same for all its endpoints.
    pub ports: Vec<EndpointPort>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// `addresses[0]`; Kubernetes gives the others no meaning.
    pub address: IpAddr,
    /// `conditions.ready`; absent counts as true.
    pub ready: bool,
    /// `conditions.serving`; absent counts as `ready`.
    pub serving: bool,
    /// `conditions.terminating`; absent counts as false.
    pub terminating: bool,
    /// The pod of `targetRef`, in the slice's namespace.
    pub pod: Option<Arc<str>>,
    /// `zone`.
    pub zone: Option<Arc<str>>,
}

/// One port of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointPort {
    /// The name, that of the service's port; may be empty.
    pub name: Arc<str>,
    /// The number at the endpoints.
    pub port: u16,
    /// `protocol`.
    pub transport: Transport,
    /// `appProtocol`.
    pub app_protocol: Option<Arc<str>>,
}

/// A `Pod`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pod {
    /// `metadata.labels`.
    pub labels: Labels,
    /// `status.podIPs`; none once all its containers have ended for good: the addresses may be
    /// another pod's by then.
    pub ips: Vec<IpAddr>,
    /// `spec.serviceAccountName`, `default` where there is none.
    pub service_account: Arc<str>,
    /// `metadata.uid`: tells it from a former pod of its name; empty where the source has none.
    pub uid: Arc<str>,
    /// Ports that its containers declare.
    pub ports: Vec<ContainerPort>,
    /// Condition `Ready`.
    pub ready: bool,
    /// `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// It runs a sidecar: annotation [`membership::STATUS`].
    pub meshed: bool,
    /// What it says itself of having one ([`membership::asked_by_pod`]).
    pub asks_for_mesh: Option<bool>,
    /// The name of what made it, for records: its Deployment (that of the ReplicaSet that owns it
    /// without the template hash), StatefulSet, Job, …; the pod's own where nothing owns it.
    pub workload: Arc<str>,
    /// `spec.hostNetwork`: its addresses are the node's, not its own.
    pub host_network: bool,
    /// The zone of its node; none where the source knows no nodes.
    pub zone: Option<Arc<str>>,
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerPort {
    /// `name`; may be empty.
    pub name: Arc<str>,
    /// `containerPort`.
    pub port: u16,
    /// `protocol`.
    pub transport: Transport,
}
