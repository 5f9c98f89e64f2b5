//! One typed object of any kind that Weft reads.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::gateway::{Gateway, GatewayClass, GrpcRoute, HttpRoute, ReferenceGrant};
use crate::kubernetes::{
    ConfigMap, Deployment, EndpointSlice, Namespace, Pod, Service, ServiceAccount,
};
use crate::{AuthorizationPolicy, ClusterIps, Kind, MeshConfig, PeerAuthentication, TrafficPolicy};

/// Names one object among all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; "" for kinds that live in none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectKey {
    /// `Kind namespace/name`, or `Kind name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            namespace,
            name,
        } = self;
        match namespace.as_str() {
            "" => write!(f, "{kind} {name}"),
            _ => write!(f, "{kind} {namespace}/{name}"),
        }
    }
}

/// One object of any kind that Weft reads.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum ApiObject {
    Namespace(Box<Namespace>),
    ServiceAccount(Box<ServiceAccount>),
    Service(Box<Service>),
    EndpointSlice(Box<EndpointSlice>),
    Pod(Box<Pod>),
    Deployment(Box<Deployment>),
    ConfigMap(Box<ConfigMap>),
    GatewayClass(Box<GatewayClass>),
    Gateway(Box<Gateway>),
    ReferenceGrant(Box<ReferenceGrant>),
    HttpRoute(Box<HttpRoute>),
    GrpcRoute(Box<GrpcRoute>),
    AuthorizationPolicy(Box<AuthorizationPolicy>),
    PeerAuthentication(Box<PeerAuthentication>),
    TrafficPolicy(Box<TrafficPolicy>),
    MeshConfig(Box<MeshConfig>),
    ClusterIps(Box<ClusterIps>),
}

/// The same expression for the content of every variant.
macro_rules! each {
    ($object:expr, $inner:ident => $body:expr) => {
        match $object {
            ApiObject::Namespace($inner) => $body,
            ApiObject::ServiceAccount($inner) => $body,
            ApiObject::Service($inner) => $body,
            ApiObject::EndpointSlice($inner) => $body,
            ApiObject::Pod($inner) => $body,
            ApiObject::Deployment($inner) => $body,
            ApiObject::ConfigMap($inner) => $body,
            ApiObject::GatewayClass($inner) => $body,
            ApiObject::Gateway($inner) => $body,
            ApiObject::ReferenceGrant($inner) => $body,
            ApiObject::HttpRoute($inner) => $body,
            ApiObject::GrpcRoute($inner) => $body,
            ApiObject::AuthorizationPolicy($inner) => $body,
            ApiObject::PeerAuthentication($inner) => $body,
            ApiObject::TrafficPolicy($inner) => $body,
            ApiObject::MeshConfig($inner) => $body,
            ApiObject::ClusterIps($inner) => $body,
        }
    };
}

/// A type error, and where in the value it lies.
pub(crate) type TypeError = serde_path_to_error::Error<serde_json::Error>;

impl ApiObject {
    /// Reads the value as the given kind.
    pub(crate) fn from_value(kind: Kind, value: &Value) -> Result<Self, TypeError> {
        fn typed<T: serde::de::DeserializeOwned>(value: &Value) -> Result<Box<T>, TypeError> {
            serde_path_to_error::deserialize(value).map(Box::new)
        }
        Ok(match kind {
            Kind::Namespace => Self::Namespace(typed(value)?),
            Kind::ServiceAccount => Self::ServiceAccount(typed(value)?),
            Kind::Service => Self::Service(typed(value)?),
            Kind::EndpointSlice => Self::EndpointSlice(typed(value)?),
            Kind::Pod => Self::Pod(typed(value)?),
            Kind::Deployment => Self::Deployment(typed(value)?),
            Kind::ConfigMap => Self::ConfigMap(typed(value)?),
            Kind::GatewayClass => Self::GatewayClass(typed(value)?),
            Kind::Gateway => Self::Gateway(typed(value)?),
            Kind::ReferenceGrant => Self::ReferenceGrant(typed(value)?),
            Kind::HttpRoute => Self::HttpRoute(typed(value)?),
            Kind::GrpcRoute => Self::GrpcRoute(typed(value)?),
            Kind::AuthorizationPolicy => Self::AuthorizationPolicy(typed(value)?),
            Kind::PeerAuthentication => Self::PeerAuthentication(typed(value)?),
            Kind::TrafficPolicy => Self::TrafficPolicy(typed(value)?),
            Kind::MeshConfig => Self::MeshConfig(typed(value)?),
            Kind::ClusterIps => Self::ClusterIps(typed(value)?),
        })
    }

    /// The object as JSON.
    pub fn to_value(&self) -> Result<Value, serde_json::Error> {
        each!(self, inner => serde_json::to_value(inner))
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::ServiceAccount(_) => Kind::ServiceAccount,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Pod(_) => Kind::Pod,
            Self::Deployment(_) => Kind::Deployment,
            Self::ConfigMap(_) => Kind::ConfigMap,
            Self::GatewayClass(_) => Kind::GatewayClass,
            Self::Gateway(_) => Kind::Gateway,
            Self::ReferenceGrant(_) => Kind::ReferenceGrant,
            Self::HttpRoute(_) => Kind::HttpRoute,
            Self::GrpcRoute(_) => Kind::GrpcRoute,
            Self::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
            Self::PeerAuthentication(_) => Kind::PeerAuthentication,
            Self::TrafficPolicy(_) => Kind::TrafficPolicy,
            Self::MeshConfig(_) => Kind::MeshConfig,
            Self::ClusterIps(_) => Kind::ClusterIps,
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        each!(self, inner => &inner.metadata)
    }

    /// Its metadata, to be changed.
    pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
        each!(self, inner => &mut inner.metadata)
    }

    /// Its name; "" when it has none.
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or("")
    }

    /// Its namespace: `default` when none is written, "" for kinds that live in none.
    pub fn namespace(&self) -> &str {
        if self.kind().is_namespaced() {
            self.metadata().namespace.as_deref().unwrap_or("default")
        } else {
            ""
        }
    }

    /// What names it among all objects.
    pub fn key(&self) -> ObjectKey {
        ObjectKey {
            kind: self.kind(),
            namespace: self.namespace().to_owned(),
            name: self.name().to_owned(),
        }
    }
}
