//! What is reached from outside in the clear: metrics at 15020; readiness and the application's probes at
//! 15021.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;

use crate::admin::readiness_answer;
use crate::probes::{Answer, Probes};
use crate::readiness::Readiness;

/// What is asked at 15021.
#[derive(Debug)]
pub struct Health {
    /// The proxy's own readiness.
    pub readiness: Arc<Readiness>,
    /// The application's probes.
    pub probes: Probes,
    /// Where the application is asked.
    pub pod: IpAddr,
}

/// Readiness and probes.
pub fn health_routes(health: Arc<Health>) -> Router {
    Router::new()
        .route("/healthz/ready", get(ready))
        .route("/weft/probe/{*key}", get(probe))
        .with_state(health)
}

/// Metrics in the OpenMetrics text format.
pub fn metrics_routes(registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(registry)
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    readiness_answer(&health.readiness)
}

async fn probe(State(health): State<Arc<Health>>, Path(key): Path<String>) -> Response {
    match health.probes.ask(&key, health.pod).await {
        Some(Answer::Well) => "well\n".into_response(),
        Some(Answer::Unwell(reason)) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
        }
        None => {
            let text = format!("there is no probe {key}, only: {}\n", health.probes.keys());
            (StatusCode::NOT_FOUND, text).into_response()
        }
    }
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => {
            let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, format)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
