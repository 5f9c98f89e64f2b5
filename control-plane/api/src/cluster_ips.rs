//! `ClusterIPs` (group `local.weft.dev`): the virtual addresses that `weft up` gave to Services.
//!
//! Not written by people and no CRD: on one machine the Services stay as their author wrote them,
//! without addresses, and this object carries the addresses beside them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// Addresses of Services, by `namespace/name`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterIps {
    /// `local.weft.dev/v1`.
    pub api_version: String,
    /// `ClusterIPs`.
    pub kind: String,
    /// Name; the object has no namespace.
    pub metadata: ObjectMeta,
    /// The addresses.
    pub spec: ClusterIpsSpec,
}

/// The content of [`ClusterIps`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterIpsSpec {
    /// Virtual addresses by `namespace/name` of the Service; a Service whose own spec names
    /// addresses keeps those.
    pub services: BTreeMap<String, Vec<IpAddr>>,
}

impl ClusterIps {
    /// The object named `name` that holds `services`.
    pub fn new(name: &str, services: BTreeMap<String, Vec<IpAddr>>) -> Self {
        Self {
            api_version: format!("{}/v1", crate::LOCAL_GROUP),
            kind: "ClusterIPs".to_owned(),
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            spec: ClusterIpsSpec { services },
        }
    }
}
