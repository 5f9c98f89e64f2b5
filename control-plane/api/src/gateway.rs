//! The Gateway API's types that Weft reads (v1.6, standard channel).
//!
//! Of a Gateway and its class only that much is read as says whose they are: what else a Gateway asks for is its
//! controller's business, and its newer fields are no faults.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use gateway_api::grpcroutes;
pub use gateway_api::grpcroutes::GrpcRoute;
pub use gateway_api::httproutes;
pub use gateway_api::httproutes::HttpRoute;
pub use gateway_api::referencegrants;
pub use gateway_api::referencegrants::ReferenceGrant;

/// A `GatewayClass`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClass {
    /// `gateway.networking.k8s.io/v1`.
    pub api_version: String,
    /// `GatewayClass`.
    pub kind: String,
    /// Name; the object has no namespace.
    pub metadata: ObjectMeta,
    /// Whose the class is.
    pub spec: GatewayClassSpec,
}

/// The content of [`GatewayClass`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassSpec {
    /// The controller that manages the Gateways of this class.
    pub controller_name: String,
    /// Everything else, unread.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// A `Gateway`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// `gateway.networking.k8s.io/v1`.
    pub api_version: String,
    /// `Gateway`.
    pub kind: String,
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// Whose it is.
    pub spec: GatewaySpec,
}

/// The content of [`Gateway`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// Its GatewayClass.
    pub gateway_class_name: String,
    /// Everything else, unread.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}
