//! What checks decide over: a cluster as it was found, in JSON as the API server has it. Gathering is `gather`'s business.

use serde_json::Value;
use weft_model::Severity;

/// A cluster and the mesh in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The version of this tool.
    pub tool: String,
    /// The namespace of the control plane.
    pub system: String,
    /// What could not be asked, and why.
    pub unanswered: Vec<(String, String)>,
    /// `/version` of the API server.
    pub kubernetes: Value,
    pub crds: Vec<Value>,
    pub namespaces: Vec<Value>,
    pub pods: Vec<Value>,
    /// Deployments and whatever else makes pods, with their `kind`.
    pub workloads: Vec<Value>,
    /// Policies, routes and MeshConfigs, with their `kind`.
    pub objects: Vec<Value>,
    /// The control plane's Deployment; null if there is none.
    pub deployment: Value,
    /// Deployments of control planes, in whatever namespace.
    pub deployments: Vec<Value>,
    /// The MutatingWebhookConfiguration; null if there is none.
    pub webhook: Value,
    /// What came of a pod that asked for a proxy, without being made.
    pub injection: Option<Result<Value, String>>,
    /// ConfigMaps with trust anchors, of all namespaces.
    pub anchors: Vec<Value>,
    /// When each root in the control plane's own ConfigMap expires, in seconds from now.
    pub roots: Vec<Root>,
    /// What the person, before the installation, and the control plane, after it, is to be permitted.
    pub access: Vec<Access>,
    pub replicas: Vec<ReplicaFacts>,
    /// What `weft proxy status` says; null if nobody could be asked.
    pub status: Value,
    /// Answers of proxies' `/config`, by `namespace/pod`.
    pub proxies: Vec<(String, Result<Value, String>)>,
    pub clocks: Vec<Clock>,
    /// Now, in seconds since 1970, by the API server's clock.
    pub now: i64,
}

/// A root certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub subject: String,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// A verb on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// `list httproutes.gateway.networking.k8s.io`
    pub what: String,
    pub is_allowed: bool,
}

/// One replica of the control plane, as its admin interface answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReplicaFacts {
    pub pod: String,
    /// Its metrics page, or why there is none.
    pub metrics: Option<String>,
    /// Of `/v1/diagnostics`.
    pub diagnostics: Vec<Value>,
}

impl ReplicaFacts {
    /// The value of a metric without labels.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let full = format!("weft_control_plane_{name} ");
        let lines = self.metrics.as_deref().unwrap_or_default().lines();
        let mut values = lines.filter_map(|line| line.strip_prefix(&full));
        values.next()?.trim().parse().ok()
    }

    /// What it finds wrong with objects.
    pub(crate) fn errors(&self) -> impl Iterator<Item = &Value> {
        let error = Severity::Error.to_string();
        let all = self.diagnostics.iter();
        all.filter(move |one| one["severity"] == *error)
    }
}

/// How far a clock is from the API server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// `node a`, `replica b`, `this machine`.
    pub whose: String,
    /// Seconds ahead; behind if negative.
    pub ahead: i64,
}

/// `Kind namespace/name`, without the namespace where there is none.
pub(crate) fn named(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// The elements of a list; none if it is none.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Text; empty if it is none.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
