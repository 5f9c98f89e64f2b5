//! The MutatingWebhookConfiguration: which new pods the API server shows to the control plane.
//!
//! Without a bundle: that is no part of a manifest, the control plane's leader writes it.

use serde_json::{Value, json};
use weft_inject::names::{DISABLED, ENABLED, INJECT, excluded};

use crate::{Values, labels, names};

/// The control plane's own namespace and Kubernetes' own pods are never waited for.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

pub(crate) fn configuration(values: &Values) -> Value {
    let in_mesh = json!({"key": INJECT, "operator": "In", "values": [ENABLED]});
    let not_in_mesh = json!({"key": INJECT, "operator": "NotIn", "values": [ENABLED]});
    let not_opted_out = json!({"key": INJECT, "operator": "NotIn", "values": [DISABLED]});
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": names::INJECTOR, "labels": labels(values)},
        "webhooks": [
            webhook(values, "namespace", &in_mesh, &not_opted_out),
            // A pod may ask for itself; in a namespace of the mesh the first has seen it already.
            webhook(values, "pod", &not_in_mesh, &in_mesh),
        ],
    })
}

fn webhook(values: &Values, matched: &str, namespaces: &Value, pods: &Value) -> Value {
    let excluded = json!({
        "key": NAMESPACE_NAME,
        "operator": "NotIn",
        "values": excluded(&values.namespace),
    });
    json!({
        "name": format!("{matched}.injector.mesh.weft.dev"),
        "clientConfig": {"service": {
            "name": names::CONTROL_PLANE,
            "namespace": values.namespace,
            "path": format!("/inject/{matched}"),
            "port": 443,
        }},
        "rules": [{
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["pods"],
            "scope": "Namespaced",
        }],
        "namespaceSelector": {"matchExpressions": [namespaces, excluded]},
        "objectSelector": {"matchExpressions": [pods]},
        "admissionReviewVersions": ["v1"],
        "failurePolicy": values.webhook.failure_policy,
        "matchPolicy": "Equivalent",
        "reinvocationPolicy": "IfNeeded",
        "sideEffects": "None",
        "timeoutSeconds": values.webhook.timeout_seconds,
    })
}
