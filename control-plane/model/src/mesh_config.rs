//! `MeshConfig`: what holds for the whole mesh.

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

/// Which requests are written to the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum AccessLog {
    /// All.
    #[default]
    All,
    /// Those that were refused or failed.
    Errors,
    /// None.
    Off,
}

/// The `MeshConfig`, a cluster-scoped object named `default`. `None` and empty leave the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MeshConfig {
    /// `outboundPolicy`.
    pub outbound_policy: Option<OutboundPolicy>,
    /// `meshCIDRs`: where pods and Services live.
    pub mesh_cidrs: Vec<IpNet>,
    /// `accessLog.mode`.
    pub access_log: Option<AccessLog>,
    /// `mtls.mode`: where no PeerAuthentication says.
    pub mtls: Option<MtlsMode>,
}
