//! `MeshConfig`: what holds for the whole mesh.

use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use crate::policy::MtlsMode;

/// What happens to traffic for addresses that the mesh does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum OutboundPolicy {
    /// Passed on as it is.
    #[default]
    AllowAny,
    /// Refused.
    RegistryOnly,
}

/// The `MeshConfig`, a cluster-scoped object named `default`. `None` and empty leave the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MeshConfig {
    /// `trustDomain`: only compared with the one that the control plane runs with.
    pub trust_domain: Option<Arc<str>>,
    /// `outboundPolicy`.
    pub outbound_policy: Option<OutboundPolicy>,
    /// `meshCIDRs`: where pods and Services live.
    pub mesh_cidrs: Vec<IpNet>,
    /// `accessLog.enabled`.
    pub access_log: Option<bool>,
    /// `mtls.mode`: where no PeerAuthentication says.
    pub mtls: Option<MtlsMode>,
}
