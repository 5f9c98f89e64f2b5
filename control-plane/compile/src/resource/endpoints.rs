//! `Endpoints`: one bucket of a service's endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use weft_identity::SpiffeId;

use super::service::Protocol;

/// One bucket, `namespace/name/bucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    /// Ascending by address.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Where each port of the service is found, ascending by `service_port`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
    /// Who must answer there; `None`: not meshed.
    pub identity: Option<SpiffeId>,
    /// The pod's namespace; the service's where no pod is known.
    pub namespace: Arc<str>,
    /// The workload's name in records; empty where no pod is known.
    pub workload: Arc<str>,
    /// Zone, empty where unknown.
    pub zone: Arc<str>,
    /// Takes requests.
    pub ready: bool,
    /// Being deleted.
    pub terminating: bool,
}

/// A port at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointPort {
    /// The service's port; 0 where a pod is dialled itself.
    pub service_port: u16,
    /// The port at the endpoint.
    pub port: u16,
    /// The peer takes mTLS there.
    pub mtls: bool,
    /// What it speaks.
    pub protocol: Protocol,
}
