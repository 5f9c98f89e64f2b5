//! `PeerAuthentication`: whether a workload takes plaintext.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::PolicyStatus;
use crate::target::WorkloadSelector;

/// Says whether workloads take connections that are not mutual TLS of the mesh.
///
/// The policy with a selector beats the one of the namespace, and that the one of the root
/// namespace. Between workloads of the mesh every connection is mutual TLS whatever the mode is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "mesh.weft.dev",
    version = "v1alpha1",
    kind = "PeerAuthentication",
    plural = "peerauthentications",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "pa",
    category = "weft",
    doc = "Says whether workloads take connections that are not mutual TLS of the mesh.",
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mtls.mode"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.ancestors[*].conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(validation = Rule::new("has(self.mtls) || has(self.portLevelMtls)").message("one of mtls and portLevelMtls must be given"))]
#[x_kube(validation = Rule::new("!has(self.portLevelMtls) || has(self.selector)").message("portLevelMtls needs a selector: ports are those of certain pods"))]
#[x_kube(validation = Rule::new("!has(self.portLevelMtls) || self.portLevelMtls.all(port, 0 < int(port) && int(port) <= 65535)").message("the keys of portLevelMtls are port numbers"))]
pub struct PeerAuthenticationSpec {
    /// The pods that this applies to. Left out: those of the namespace (in the root namespace: of
    /// the mesh).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<WorkloadSelector>,
    /// The mode of all ports that `portLevelMtls` does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<MutualTls>,
    /// Modes of single ports of the pod, by port number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 64))]
    pub port_level_mtls: Option<BTreeMap<String, MutualTls>>,
}

/// How a port treats plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MutualTls {
    /// STRICT refuses plaintext, PERMISSIVE takes it too.
    pub mode: MutualTlsMode,
}

/// Whether plaintext is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MutualTlsMode {
    /// Only mutual TLS of the mesh.
    Strict,
    /// Mutual TLS of the mesh, and plaintext from outside of it.
    Permissive,
}
