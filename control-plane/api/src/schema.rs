//! The JSON schema of a kind, as its type has it.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use crate::gateway::{Gateway, GatewayClass, GrpcRoute, HttpRoute, ReferenceGrant};
use crate::kubernetes::{
    ConfigMap, Deployment, EndpointSlice, Namespace, Pod, Service, ServiceAccount,
};
use crate::{AuthorizationPolicy, Kind, MeshConfig, PeerAuthentication, TrafficPolicy};

/// The schema of a kind; null for the one that people do not write.
pub fn schema(kind: Kind) -> Value {
    fn of<T: JsonSchema>() -> Value {
        SchemaGenerator::default()
            .into_root_schema_for::<T>()
            .into()
    }
    match kind {
        Kind::Namespace => of::<Namespace>(),
        Kind::ServiceAccount => of::<ServiceAccount>(),
        Kind::Service => of::<Service>(),
        Kind::EndpointSlice => of::<EndpointSlice>(),
        Kind::Pod => of::<Pod>(),
        Kind::Deployment => of::<Deployment>(),
        Kind::ConfigMap => of::<ConfigMap>(),
        Kind::GatewayClass => of::<GatewayClass>(),
        Kind::Gateway => of::<Gateway>(),
        Kind::ReferenceGrant => of::<ReferenceGrant>(),
        Kind::HttpRoute => of::<HttpRoute>(),
        Kind::GrpcRoute => of::<GrpcRoute>(),
        Kind::AuthorizationPolicy => of::<AuthorizationPolicy>(),
        Kind::PeerAuthentication => of::<PeerAuthentication>(),
        Kind::TrafficPolicy => of::<TrafficPolicy>(),
        Kind::MeshConfig => of::<MeshConfig>(),
        Kind::ClusterIps => Value::Null,
    }
}

/// The schema behind references and "this or null". `root` is what references are relative to.
pub fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> Option<&'a Value> {
    loop {
        if let Some(reference) = schema.get("$ref") {
            schema = root.pointer(reference.as_str()?.strip_prefix('#')?)?;
            continue;
        }
        let choices = ["anyOf", "allOf"]
            .iter()
            .find_map(|key| schema.get(key)?.as_array());
        match choices {
            Some(choices) => {
                let is_null = |choice: &&Value| choice.get("type") != Some(&"null".into());
                schema = choices.iter().find(is_null)?;
            }
            None => return Some(schema),
        }
    }
}
