//! One object of the world: its key, where it comes from, and what it says.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::diagnostic::Problem;
use crate::gateway::{Gateway, GatewayClass, ReferenceGrant};
use crate::key::{Kind, ObjectKey};
use crate::mesh_config::MeshConfig;
use crate::policy::{AuthorizationPolicy, PeerAuthentication};
use crate::route::{GrpcRoute, HttpRoute};
use crate::traffic::TrafficPolicy;
use crate::workload::{EndpointSlice, Namespace, Pod, Service, ServiceAccount};

/// Where an object was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Origin {
    /// A document in a file; `line` (from 1) is where the document begins.
    File {
        /// The file, as the user named it.
        path: Arc<str>,
        /// First line of the document.
        line: u32,
    },
    /// A Kubernetes API server, at this resource version.
    Kubernetes {
        /// `metadata.resourceVersion`, a number that the API server counts up.
        resource_version: u64,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line } => write!(f, "{path}:{line}"),
            Origin::Kubernetes { resource_version } => {
                write!(f, "kubernetes@{resource_version}")
            }
        }
    }
}

/// When an object came to be: of two that contend, the one with the smaller value wins ("the
/// oldest wins"; Gateway API, "conflicts"), and the name decides between equals.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Created {
    /// `metadata.creationTimestamp` in Unix seconds; 0 where there is none.
    pub seconds: i64,
    /// Orders objects without a timestamp: file and position within it. Empty in Kubernetes.
    pub place: Arc<str>,
}

/// What is known about an object beside its contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Meta {
    /// Where it was read.
    pub origin: Origin,
    /// Its place in "the oldest wins".
    pub created: Created,
    /// `metadata.generation`, or a counter that the source raises with each new content.
    pub generation: u64,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Object {
    /// Its name; the kind agrees with `spec`.
    pub key: ObjectKey,
    /// Where and when.
    pub meta: Meta,
    /// What it says.
    pub spec: Spec,
    /// What of it could not be read, by the source or by `weft-api`'s validation of the single
    /// object. The source reports these as diagnostics; compile only draws the consequence: a
    /// route loses the rules concerned, an AuthorizationPolicy refuses everything on its targets,
    /// a PeerAuthentication is taken for STRICT, a TrafficPolicy or MeshConfig is left out;
    /// Kubernetes' own objects count as far as they were read.
    pub problems: Vec<Problem>,
}

impl Object {
    /// An object without problems.
    pub fn new(
        namespace: impl Into<Arc<str>>,
        name: impl Into<Arc<str>>,
        meta: Meta,
        spec: Spec,
    ) -> Self {
        Self {
            key: ObjectKey::new(spec.kind(), namespace, name),
            meta,
            spec,
            problems: Vec::new(),
        }
    }

    /// The order of "the oldest wins": creation, then namespace and name.
    #[must_use]
    pub fn seniority(&self) -> (&Created, &str, &str) {
        (&self.meta.created, &self.key.namespace, &self.key.name)
    }
}

/// The contents of an object, by kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub enum Spec {
    Namespace(Namespace),
    ServiceAccount(ServiceAccount),
    Service(Service),
    EndpointSlice(EndpointSlice),
    Pod(Pod),
    GatewayClass(GatewayClass),
    Gateway(Gateway),
    ReferenceGrant(ReferenceGrant),
    HttpRoute(HttpRoute),
    GrpcRoute(GrpcRoute),
    AuthorizationPolicy(AuthorizationPolicy),
    PeerAuthentication(PeerAuthentication),
    TrafficPolicy(Box<TrafficPolicy>),
    MeshConfig(MeshConfig),
}

impl Spec {
    /// The kind of these contents.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Spec::Namespace(_) => Kind::Namespace,
            Spec::ServiceAccount(_) => Kind::ServiceAccount,
            Spec::Service(_) => Kind::Service,
            Spec::EndpointSlice(_) => Kind::EndpointSlice,
            Spec::Pod(_) => Kind::Pod,
            Spec::GatewayClass(_) => Kind::GatewayClass,
            Spec::Gateway(_) => Kind::Gateway,
            Spec::ReferenceGrant(_) => Kind::ReferenceGrant,
            Spec::HttpRoute(_) => Kind::HttpRoute,
            Spec::GrpcRoute(_) => Kind::GrpcRoute,
            Spec::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
            Spec::PeerAuthentication(_) => Kind::PeerAuthentication,
            Spec::TrafficPolicy(_) => Kind::TrafficPolicy,
            Spec::MeshConfig(_) => Kind::MeshConfig,
        }
    }
}
