//! HTTP and JSON for people and the CLI, on a socket file or loopback.
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | 200 while the process serves |
//! | `GET /readyz` | 200 once every source has been read |
//! | `GET /v1/proxies` | every connected proxy, what it confirmed and refused |
//! | `GET /v1/wait?kind=&namespace=&name=&timeout=` | whether the object, as compiled now, is confirmed by all; of a cluster's, `generation=` or `resourceVersion=` says which state of it must have been compiled |
//! | `GET /v1/diagnostics` | everything that is wrong |
//! | `GET /v1/snapshot` | all resources |
//! | `GET /v1/rotate-root` | where the root rotation stands |
//! | `POST /v1/rotate-root` | begins one |
//! | `GET /metrics` | Prometheus metrics |
//!
//! Errors are `{"error": "…"}` with a status that fits.

mod listener;
mod metrics;
mod wait;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use serde_json::json;
use weft_certs::{AuthorityError, RotationPhase};
use weft_xds::{ProxyStatus, RefusedBy, Server};

use crate::authority::{Authority, ChangeError};
use crate::findings::Finding;
use crate::kubernetes::ca_secret::NotStored;
use crate::kubernetes::webhook::replica::WebhookHealth;
use crate::mesh::Mesh;

pub(crate) use listener::AdminListener;
pub(crate) use metrics::metrics;

/// What the admin interface can see and do.
pub(crate) struct Admin {
    pub server: Server,
    pub mesh: Arc<Mesh>,
    pub authority: Arc<Authority>,
    /// In a cluster.
    pub webhook: Option<WebhookHealth>,
}

/// All routes.
pub(crate) fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/v1/proxies", get(proxies))
        .route("/v1/wait", get(wait::wait))
        .route("/v1/diagnostics", get(diagnostics))
        .route("/v1/snapshot", get(snapshot))
        .route("/v1/rotate-root", get(rotation).post(rotate))
        .route("/metrics", get(metrics::metrics))
        .with_state(admin)
}

/// An error for people.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

async fn ready(State(admin): State<Arc<Admin>>) -> Result<&'static str, Failure> {
    if admin.server.is_ready() {
        return Ok("ready\n");
    }
    Err(Failure(
        StatusCode::SERVICE_UNAVAILABLE,
        "the sources have not been read to their end yet".into(),
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Proxy {
    pod: String,
    identity: String,
    address: String,
    connected_since: u64,
    connected_seconds: u64,
    /// `REPLICA/COUNTER`
    confirmed_epoch: String,
    up_to_date: bool,
    acknowledgements: u64,
    subscriptions: usize,
    /// Some of what it has not confirmed.
    pending: Vec<String>,
    refusals: Vec<Refusal>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refusal {
    pod: String,
    /// `Type name`
    resource: String,
    field: String,
    reason: String,
    /// Epoch counter of the refused content.
    since: u64,
}

impl From<&RefusedBy> for Refusal {
    fn from(refused: &RefusedBy) -> Self {
        Self {
            pod: refused.pod.to_string(),
            resource: format!("{} {}", refused.kind, refused.name),
            field: refused.field.clone(),
            reason: refused.reason.clone(),
            since: refused.since,
        }
    }
}

async fn proxies(State(admin): State<Arc<Admin>>) -> Json<serde_json::Value> {
    let epoch = admin.server.epoch();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let proxy = |status: &ProxyStatus| Proxy {
        pod: status.pod.to_string(),
        identity: status.identity.to_string(),
        address: status.address.to_string(),
        connected_since: status.connected_since,
        connected_seconds: now.saturating_sub(status.connected_since),
        confirmed_epoch: format!("{}/{}", epoch.replica, status.confirmed),
        up_to_date: status.confirmed >= epoch.counter && status.refused.is_empty(),
        acknowledgements: status.acknowledged,
        subscriptions: status.subscriptions,
        pending: status.pending.clone(),
        refusals: status.refused.iter().map(Refusal::from).collect(),
    };
    let proxies: Vec<Proxy> = admin.server.proxies().iter().map(proxy).collect();
    Json(json!({ "epoch": epoch.to_string(), "proxies": proxies }))
}

impl Admin {
    /// Whether calls of the API server would not fail here for the certificate.
    pub fn webhook_is_believed(&self) -> bool {
        let webhook = self.webhook.as_ref();
        webhook.is_none_or(|webhook| webhook.believed.borrow().is_good())
    }

    /// Everything that is wrong: objects, what proxies refused, the authority's state.
    fn findings(&self) -> Vec<Finding> {
        let mut findings = self.mesh.findings();
        findings.extend(self.authority.findings());
        findings
    }
}

async fn diagnostics(State(admin): State<Arc<Admin>>) -> Json<serde_json::Value> {
    Json(json!({ "diagnostics": admin.findings() }))
}

async fn snapshot(State(admin): State<Arc<Admin>>) -> Response {
    Json(admin.mesh.snapshot()).into_response()
}

async fn rotation(State(admin): State<Arc<Admin>>) -> Json<serde_json::Value> {
    Json(phase(admin.authority.phase()))
}

async fn rotate(State(admin): State<Arc<Admin>>) -> Result<Json<serde_json::Value>, Failure> {
    match admin.authority.begin_rotation(&admin.server).await {
        Ok(entered) => {
            tracing::info!("root rotation: {entered}");
            Ok(Json(phase(Some(entered))))
        }
        Err(error) => Err(Failure(status_of(&error), error.to_string())),
    }
}

fn status_of(error: &ChangeError) -> StatusCode {
    match error {
        ChangeError::Supplied(_)
        | ChangeError::Authority(AuthorityError::Rotation(_))
        | ChangeError::Secret(NotStored::Following { .. } | NotStored::Unreadable) => {
            StatusCode::CONFLICT
        }
        ChangeError::NoAuthority | ChangeError::Secret(NotStored::Request(_)) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ChangeError::Authority(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn phase(phase: Option<RotationPhase>) -> serde_json::Value {
    let unix = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    };
    let until = match phase {
        None | Some(RotationPhase::Stable) => None,
        Some(RotationPhase::Announced { switch_by }) => Some(unix(switch_by)),
        Some(RotationPhase::Switched { drop_by }) => Some(unix(drop_by)),
    };
    let name = phase.map_or_else(|| "no authority".to_owned(), |phase| phase.to_string());
    json!({ "phase": name, "untilAtLatest": until })
}
