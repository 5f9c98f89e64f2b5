//! Names and ports of the mesh's own objects.

/// Deployment, Service and ServiceAccount of the control plane.
pub const CONTROL_PLANE: &str = "weft-control-plane";
/// The MutatingWebhookConfiguration.
pub const INJECTOR: &str = "weft-injector";
/// gRPC: streams and certificates.
pub const GRPC_PORT: u16 = 15010;
/// Admin, on loopback alone.
pub const ADMIN_PORT: u16 = 15011;
/// Health and metrics.
pub const HEALTH_PORT: u16 = 15014;
/// The webhook, HTTPS.
pub const WEBHOOK_PORT: u16 = 15017;
