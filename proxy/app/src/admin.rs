//! The admin interface, on loopback and on a Unix socket: health, readiness, the active configuration,
//! the log's filter, leaving. It answers who can already reach the pod's inside, and nobody else.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::net::UnixListener;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Registry, reload};
use weft_proxy_net::{Leaving, Phase};

use crate::dump;
use crate::readiness::Readiness;

/// What the admin interface shows and moves.
#[derive(Debug)]
pub struct Admin {
    /// Readiness and what it rests on.
    pub readiness: Arc<Readiness>,
    /// Who this is, as in the dump.
    pub about: dump::About,
    /// The log's filter.
    pub log: reload::Handle<Targets, Registry>,
}

/// The interface's routes.
pub fn routes(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/config", get(config))
        .route("/log", get(log).put(set_log))
        .route("/drain", post(drain))
        .route("/drain-status", get(drain_status))
        .with_state(admin)
}

/// Readiness as an answer: 200, or 503 with what is missing.
pub fn readiness_answer(readiness: &Readiness) -> Response {
    let report = readiness.report();
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report)).into_response()
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    readiness_answer(&admin.readiness)
}

async fn config(State(admin): State<Arc<Admin>>) -> Response {
    Json(dump::configuration(&admin.about, &admin.readiness)).into_response()
}

async fn log(State(admin): State<Arc<Admin>>) -> Response {
    match admin.log.with_current(ToString::to_string) {
        Ok(filter) => format!("{filter}\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The body is the filter: a level, or `target=level,...`.
async fn set_log(State(admin): State<Arc<Admin>>, filter: String) -> Response {
    let filter = match filter.trim().parse::<Targets>() {
        Ok(filter) => filter,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    match admin.log.reload(filter) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Says goodbye to peers and clients; accepting goes on. There is no way back.
async fn drain(State(admin): State<Arc<Admin>>) -> Response {
    admin.readiness.leaving.advance(Phase::Draining);
    drain_status(State(admin)).await
}

async fn drain_status(State(admin): State<Arc<Admin>>) -> Response {
    let mut status = leaving_status(&admin.readiness.leaving);
    let inbound = admin.readiness.store.inbound();
    // Everyone who knew this endpoint has confirmed that it is gone.
    status["confirmed"] = json!(inbound.is_some_and(|inbound| inbound.drained));
    Json(status).into_response()
}

/// How far leaving has come.
pub fn leaving_status(leaving: &Leaving) -> serde_json::Value {
    let phase = match leaving.phase() {
        Phase::Serving => "serving",
        Phase::Draining => "draining",
        Phase::Closed => "closed",
        Phase::Ended => "ended",
    };
    json!({ "phase": phase, "openConnections": leaving.open_connections() })
}

/// Binds the Unix socket, in place of one that an earlier process left behind.
///
/// # Errors
/// As of `unlink` and `bind`.
pub fn bind_socket(path: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot replace {}", path.display()));
        }
    }
    UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))
}
