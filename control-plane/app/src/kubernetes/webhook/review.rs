//! AdmissionReview (`admission.k8s.io/v1`) in, AdmissionReview out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use weft_inject::names::{ENABLED, INJECT};
use weft_inject::{InjectSettings, Namespace, Outcome, inject};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// Annotations of the namespaces in the mesh, by name: defaults for their pods.
pub type NamespaceAnnotations = Arc<BTreeMap<String, BTreeMap<String, String>>>;

/// Why the API server calls: which of the configuration's webhooks matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched {
    /// The namespace is in the mesh.
    Namespace,
    /// The pod asked for a proxy by itself.
    Pod,
}

/// Puts proxies into pods.
#[derive(Debug)]
pub struct Injector {
    /// What a proxy of this mesh is.
    pub settings: InjectSettings,
    /// What namespaces say about their pods.
    pub namespaces: watch::Receiver<NamespaceAnnotations>,
    counts: Counts,
}

/// How many pods were decided on in each way.
#[derive(Debug, Default)]
struct Counts {
    injected: AtomicU64,
    not_wanted: AtomicU64,
    refused: AtomicU64,
}

/// The body is no AdmissionReview.
#[derive(Debug, thiserror::Error)]
#[error("expected an {KIND} of {API_VERSION} as the API server sends it: {0}")]
pub struct NoReview(String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    kind: GroupVersionKind,
    operation: String,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    object: Value,
}

#[derive(Deserialize, PartialEq)]
struct GroupVersionKind {
    #[serde(default)]
    group: String,
    version: String,
    kind: String,
}

impl Injector {
    /// One that has not decided anything yet.
    #[must_use]
    pub fn new(
        settings: InjectSettings,
        namespaces: watch::Receiver<NamespaceAnnotations>,
    ) -> Self {
        Self {
            settings,
            namespaces,
            counts: Counts::default(),
        }
    }

    /// Pods by outcome since the start.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 3] {
        let counts = &self.counts;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("injected", load(&counts.injected)),
            ("not_wanted", load(&counts.not_wanted)),
            ("refused", load(&counts.refused)),
        ]
    }

    /// The answer to a review.
    ///
    /// # Errors
    /// The body is none.
    pub fn answer(&self, matched: Matched, body: &[u8]) -> Result<Value, NoReview> {
        let review: Review =
            serde_json::from_slice(body).map_err(|error| NoReview(error.to_string()))?;
        if review.api_version != API_VERSION || review.kind != KIND {
            let found = format!("it is {:?} of {:?}", review.kind, review.api_version);
            return Err(NoReview(found));
        }
        let request = review.request;
        let mut response = match request.is_new_pod() {
            true => self.decide(matched, &request),
            false => denied(400, "only the creation of pods is reviewed here"),
        };
        response["uid"] = request.uid.into();
        Ok(json!({"apiVersion": API_VERSION, "kind": KIND, "response": response}))
    }

    fn decide(&self, matched: Matched, request: &Request) -> Value {
        let namespace = self.namespace(matched, &request.namespace);
        let pod = &request.object;
        let whose = PodName(request);
        match inject(pod, &namespace, &self.settings) {
            Outcome::Injected(injected) => {
                self.counts.injected.fetch_add(1, Ordering::Relaxed);
                tracing::info!(pod = %whose, operations = injected.patch.len(), "injected");
                let mut response = json!({"allowed": true});
                if !injected.patch.is_empty() {
                    let patch = Value::Array(injected.patch).to_string();
                    response["patchType"] = "JSONPatch".into();
                    response["patch"] = STANDARD.encode(patch).into();
                }
                warn(response, injected.warnings)
            }
            Outcome::NotWanted { reason, warn: told } => {
                self.counts.not_wanted.fetch_add(1, Ordering::Relaxed);
                tracing::info!(pod = %whose, reason, "not injected");
                let warning = format!("this pod gets no Weft proxy: {reason}");
                let warnings = if told { vec![warning] } else { Vec::new() };
                warn(json!({"allowed": true}), warnings)
            }
            Outcome::Refused(refusal) => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(pod = %whose, %refusal, "refused");
                denied(403, &refusal.to_string())
            }
        }
    }

    /// The namespace as far as the decision needs it. That it is in the mesh is the API server's
    /// finding, which is newer than anything that is known here.
    fn namespace(&self, matched: Matched, name: &str) -> Namespace {
        let annotations = self.namespaces.borrow().get(name).cloned();
        let labels = match matched {
            Matched::Namespace => BTreeMap::from([(INJECT.to_owned(), ENABLED.to_owned())]),
            Matched::Pod => BTreeMap::new(),
        };
        Namespace {
            labels,
            annotations: annotations.unwrap_or_default(),
        }
    }
}

impl Request {
    fn is_new_pod(&self) -> bool {
        let GroupVersionKind {
            group,
            version,
            kind,
        } = &self.kind;
        (group.as_str(), version.as_str(), kind.as_str()) == ("", "v1", "Pod")
            && self.operation == "CREATE"
            && self.sub_resource.is_empty()
    }
}

/// For the log: a pod of a controller has no name yet.
struct PodName<'a>(&'a Request);

impl std::fmt::Display for PodName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let metadata = &self.0.object["metadata"];
        let name = metadata["name"].as_str();
        let name = name.or(metadata["generateName"].as_str()).unwrap_or("?");
        write!(f, "{}/{name}", self.0.namespace)
    }
}

fn denied(code: u16, message: &str) -> Value {
    json!({"allowed": false, "status": {"code": code, "message": message}})
}

fn warn(mut response: Value, warnings: Vec<String>) -> Value {
    if !warnings.is_empty() {
        response["warnings"] = warnings.into();
    }
    response
}
