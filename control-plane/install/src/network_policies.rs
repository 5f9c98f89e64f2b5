//! Who reaches the control plane: proxies of any namespace, and the API server.

use serde_json::{Value, json};

use crate::names::{self, GRPC_PORT, HEALTH_PORT, WEBHOOK_PORT};
use crate::{Values, metadata, selector};

pub(crate) fn objects(values: &Values) -> [Value; 2] {
    let proxies = json!([{
        // Which pods have a proxy is not known by labels; who it is, its certificate or token says.
        "from": [{"namespaceSelector": {}}],
        "ports": [port(GRPC_PORT), port(HEALTH_PORT)],
    }]);
    let mut from_api_server = json!({"ports": [port(WEBHOOK_PORT)]});
    let blocks: Vec<Value> = values
        .webhook
        .api_server_cidrs
        .iter()
        .map(|cidr| json!({"ipBlock": {"cidr": cidr}}))
        .collect();
    // The API server is mostly no pod: without its addresses, only the port can be said.
    if !blocks.is_empty() {
        from_api_server["from"] = blocks.into();
    }
    [
        policy(values, "proxies", proxies),
        policy(values, "api-server", json!([from_api_server])),
    ]
}

fn policy(values: &Values, who: &str, ingress: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(values, &format!("{}-{who}", names::CONTROL_PLANE)),
        "spec": {
            "podSelector": {"matchLabels": selector()},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    })
}

fn port(number: u16) -> Value {
    json!({"port": number, "protocol": "TCP"})
}
