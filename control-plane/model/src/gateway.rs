//! Gateways, as far as the mesh has to know whose a route is: the class that says which controller manages a Gateway,
//! and the grants that let a Gateway's route lead into another namespace.

use std::sync::Arc;

use serde::Serialize;

/// The API group of the Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// The controller name of this control plane, in a GatewayClass and in what it writes into status.
pub const CONTROLLER: &str = "mesh.weft.dev/controller";

/// A `GatewayClass`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GatewayClass {
    /// `controllerName`.
    pub controller: Arc<str>,
}

impl GatewayClass {
    /// Whether Gateways of the class are this control plane's.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        *self.controller == *CONTROLLER
    }
}

/// A `Gateway`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gateway {
    /// `gatewayClassName`.
    pub class: Arc<str>,
}

/// A `ReferenceGrant`: who may refer to what in the grant's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReferenceGrant {
    /// `from`; each is enough.
    pub from: Vec<GrantedTo>,
    /// `to`; each is enough.
    pub to: Vec<Granted>,
}

/// Objects that may refer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GrantedTo {
    /// API group, empty for core.
    pub group: Arc<str>,
    /// Kind.
    pub kind: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
}

/// Objects that may be referred to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Granted {
    /// API group, empty for core.
    pub group: Arc<str>,
    /// Kind.
    pub kind: Arc<str>,
    /// Name; all of the kind where `None`.
    pub name: Option<Arc<str>>,
}
