//! The control plane's Deployment, Service and PodDisruptionBudget.

use serde_json::{Value, json};

use crate::names::{self, ADMIN_PORT, GRPC_PORT, HEALTH_PORT, WEBHOOK_PORT};
use crate::{Values, labels, metadata, selector};

/// The user it runs as.
const UID: u32 = 65532;

pub(crate) fn objects(values: &Values) -> [Value; 3] {
    [
        service(values),
        deployment(values),
        disruption_budget(values),
    ]
}

fn service(values: &Values) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(values, names::CONTROL_PLANE),
        "spec": {
            "selector": selector(),
            "ports": [
                {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "protocol": "TCP"},
                {"name": "webhook", "port": 443, "targetPort": "webhook", "protocol": "TCP"},
                {"name": "health", "port": HEALTH_PORT, "targetPort": "health", "protocol": "TCP"},
            ],
        },
    })
}

fn deployment(values: &Values) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(values, names::CONTROL_PLANE),
        "spec": {
            "replicas": values.control_plane.replicas,
            "selector": {"matchLabels": selector()},
            // A replica more for a moment rather than one less.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": labels(values)},
                "spec": pod(values),
            },
        },
    })
}

fn pod(values: &Values) -> Value {
    json!({
        "serviceAccountName": names::CONTROL_PLANE,
        "priorityClassName": "system-cluster-critical",
        "terminationGracePeriodSeconds": 30,
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            apart("kubernetes.io/hostname", 100),
            apart("topology.kubernetes.io/zone", 50),
        ]}},
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": UID,
            "runAsGroup": UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container(values)],
    })
}

fn apart(topology: &str, weight: u32) -> Value {
    json!({
        "weight": weight,
        "podAffinityTerm": {"topologyKey": topology, "labelSelector": {"matchLabels": selector()}},
    })
}

fn container(values: &Values) -> Value {
    let settings = &values.control_plane;
    let mut container = json!({
        "name": "control-plane",
        "image": values.image_of("control-plane"),
        "args": ["run", "--kubernetes"],
        "env": environment(values),
        "ports": [
            {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
            {"name": "webhook", "containerPort": WEBHOOK_PORT, "protocol": "TCP"},
            {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
        ],
        "startupProbe": {"httpGet": {"path": "/healthz/live", "port": "health"}, "periodSeconds": 1, "failureThreshold": 60},
        "livenessProbe": {"httpGet": {"path": "/healthz/live", "port": "health"}, "timeoutSeconds": 5},
        "readinessProbe": {"httpGet": {"path": "/healthz/ready", "port": "health"}, "periodSeconds": 2},
        "resources": {
            "requests": {"cpu": settings.cpu_request, "memory": settings.memory_request},
            "limits": {"memory": settings.memory_limit},
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    if let Some(policy) = &values.image.pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    container
}

fn environment(values: &Values) -> Vec<Value> {
    let settings = &values.control_plane;
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let value = |name: &str, value: &str| json!({"name": name, "value": value});
    vec![
        field("WEFT_NAMESPACE", "metadata.namespace"),
        field("WEFT_POD", "metadata.name"),
        value("WEFT_TRUST_DOMAIN", &values.trust_domain),
        value("WEFT_LEAF_LIFETIME", &settings.leaf_lifetime),
        value("WEFT_ROOT_LIFETIME", &settings.root_lifetime),
        value("WEFT_ADMIN", &format!("127.0.0.1:{ADMIN_PORT}")),
        value("WEFT_LOG", &settings.log),
        // Kubernetes expands `$(NAME)` in values; `$$` is a dollar.
        value(
            "WEFT_INJECT",
            &json!(values.inject_settings())
                .to_string()
                .replace('$', "$$"),
        ),
    ]
}

fn disruption_budget(values: &Values) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(values, names::CONTROL_PLANE),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector()},
            // A replica that is not ready serves nobody: it must not hold a node's drain up.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    })
}
