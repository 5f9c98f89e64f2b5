//! `MeshConfig`: what holds for the whole mesh.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::peer_authentication::MutualTls;
use crate::status::MeshConfigStatus;

/// What holds for the whole mesh. There is one, named `default`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "mesh.weft.dev",
    version = "v1alpha1",
    kind = "MeshConfig",
    plural = "meshconfigs",
    status = "MeshConfigStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "weft",
    doc = "What holds for the whole mesh. There is one, named `default`.",
    validation = Rule::new("self.metadata.name == 'default'").message("there is one MeshConfig, and its name is default"),
    printcolumn = r#"{"name":"Outbound","type":"string","jsonPath":".spec.outboundPolicy"}"#,
    printcolumn = r#"{"name":"mTLS","type":"string","jsonPath":".spec.mtls.mode"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct MeshConfigSpec {
    /// The trust domain of the mesh. It is set where the control plane is started; here it is
    /// only checked against that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub trust_domain: Option<String>,
    /// What happens to a connection to an address that the mesh does not know. Default AllowAny.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound_policy: Option<OutboundPolicy>,
    /// The address ranges of the mesh (pods and Services). An address in them of which nothing is
    /// known is an error, never a plaintext connection.
    #[serde(default, rename = "meshCIDRs", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub mesh_cidrs: Option<Vec<String>>,
    /// The proxies' access log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    /// The mode of workloads that no PeerAuthentication speaks of. Default PERMISSIVE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<MutualTls>,
}

/// What happens to a connection to an address that the mesh does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OutboundPolicy {
    /// It goes there as it is.
    #[default]
    AllowAny,
    /// It is refused.
    RegistryOnly,
}

/// The access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// Whether the proxies write one line for each request.
    pub enabled: bool,
}
