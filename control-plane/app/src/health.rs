//! Health and metrics for the cluster, on an address that others reach: nothing here changes or
//! reveals configuration.
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz/live` | 200 while the process serves |
//! | `GET /healthz/ready` | 200 once every source has been read, certificates can be issued, and the API server believes the webhook's |
//! | `GET /metrics` | Prometheus metrics |

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::admin::{Admin, metrics};

/// All routes.
pub(crate) fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/healthz/live", get(|| async { "ok\n" }))
        .route("/healthz/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, &'static str) {
    if !admin.server.is_ready() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the sources have not been read to their end yet\n",
        );
    }
    if !admin.authority.is_issuing() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "no certificate can be issued\n",
        );
    }
    if !admin.webhook_is_believed() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the webhook's certificate is not the one that the API server is told to believe\n",
        );
    }
    (StatusCode::OK, "ready\n")
}
