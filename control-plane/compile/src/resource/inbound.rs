//! `Inbound`: what a pod's own proxy needs to take connections.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use weft_model::MtlsMode;

use super::authorization::Authorization;
use super::service::Protocol;

/// One pod, `namespace/pod`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inbound {
    /// Namespace.
    pub namespace: Arc<str>,
    /// The pod's name.
    pub pod: Arc<str>,
    /// Its service account.
    pub service_account: Arc<str>,
    /// The workload's name in records.
    pub workload: Arc<str>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Mode of the ports that are not listed.
    pub mtls: MtlsMode,
    /// Ports of which something is known, ascending.
    pub ports: Vec<InboundPort>,
    /// Policies that apply, ascending by name.
    pub policies: Vec<PolicyRef>,
    /// The pod is being deleted.
    pub terminating: bool,
}

/// One port of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InboundPort {
    /// The number.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// An HTTP route leads here.
    pub routed: bool,
    /// Whether plaintext is taken.
    pub mtls: MtlsMode,
}

/// A policy that applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyRef {
    /// The policy's namespace.
    pub namespace: Arc<str>,
    /// The policy's name.
    pub name: Arc<str>,
    /// Limited to these ports, ascending; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// The policy itself, shared: its version is part of the `Inbound`, so that a changed policy
    /// changes every `Inbound` that names it.
    #[serde(skip)]
    pub policy: Arc<Authorization>,
}
