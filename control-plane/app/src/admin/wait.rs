//! "Has my change reached everyone?"

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use weft_model::{Kind, ObjectKey};
use weft_source::kubernetes::Revision;
use weft_xds::{Epoch, Progress};

use super::{Admin, Failure, Refusal};
use crate::findings::Finding;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
pub(super) struct Question {
    kind: String,
    #[serde(default)]
    namespace: String,
    name: String,
    /// Milliseconds.
    timeout: Option<u64>,
    /// Of a cluster's object: the `metadata.generation` that is meant, or a later one.
    generation: Option<u64>,
    /// Of a cluster's object: the `metadata.resourceVersion` that is meant, or a later one.
    #[serde(rename = "resourceVersion")]
    resource_version: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    /// Every proxy that was due something by it has confirmed it.
    confirmed: bool,
    /// The epoch in which the object's present content was compiled.
    epoch: String,
    /// Proxies connected.
    proxies: usize,
    /// Pods whose proxies have not confirmed.
    lagging: Vec<String>,
    /// What proxies refused of exactly this change.
    refusals: Vec<Refusal>,
    /// Why the object, as it is written now, cannot be read; its last good version is in force.
    diagnostics: Vec<Finding>,
}

pub(super) async fn wait(
    State(admin): State<Arc<Admin>>,
    Query(question): Query<Question>,
) -> Result<Json<Answer>, Failure> {
    let Some(kind) = Kind::parse(&question.kind) else {
        let kinds = Kind::ALL.map(Kind::as_str).join(", ");
        let message = format!(
            "{:?} is not a kind of the mesh; these are: {kinds}",
            question.kind
        );
        return Err(Failure(StatusCode::BAD_REQUEST, message));
    };
    let namespace = if kind.is_cluster_wide() {
        ""
    } else {
        &question.namespace
    };
    let key = ObjectKey::new(kind, namespace, question.name.as_str());
    let patience = question
        .timeout
        .map_or(DEFAULT_TIMEOUT, Duration::from_millis);
    let deadline = Instant::now() + patience.min(LONGEST_TIMEOUT);
    // What was written before the question counts, even if it has not been noticed yet.
    let revision = Revision {
        generation: question.generation,
        resource_version: question.resource_version,
    };
    let caught_up = timeout_at(deadline, admin.mesh.catch_up(&key, revision)).await;
    if caught_up.is_err() && revision != Revision::default() {
        let message = format!("{key} has not been seen here in the version that is meant");
        return Err(Failure(StatusCode::GATEWAY_TIMEOUT, message));
    }
    let Some(epoch) = admin.mesh.epoch_of(&key) else {
        let message = format!("there is no {key} in the sources");
        return Err(Failure(StatusCode::NOT_FOUND, message));
    };
    Ok(Json(confirmed(&admin, &key, epoch, deadline).await))
}

/// Waits until everyone has confirmed the object's newest epoch, which may rise meanwhile.
async fn confirmed(admin: &Admin, key: &ObjectKey, mut epoch: Epoch, deadline: Instant) -> Answer {
    let mut progressed = admin.server.progress();
    loop {
        progressed.mark_unchanged();
        epoch = admin.mesh.epoch_of(key).unwrap_or(epoch);
        let progress = admin.server.confirmed(&epoch);
        let unreadable = admin.mesh.unreadable(key);
        let done = progress.is_complete() || !unreadable.is_empty();
        if done || !matches!(timeout_at(deadline, progressed.changed()).await, Ok(Ok(()))) {
            return answer(&epoch, &progress, unreadable);
        }
    }
}

fn answer(epoch: &Epoch, progress: &Progress, diagnostics: Vec<Finding>) -> Answer {
    let refused = progress.refused.iter();
    let refusals: Vec<Refusal> = refused
        .filter(|refused| refused.since == epoch.counter)
        .map(Refusal::from)
        .collect();
    let mut lagging: Vec<String> = progress.lagging.iter().map(ToString::to_string).collect();
    lagging.extend(refusals.iter().map(|refusal| refusal.pod.clone()));
    lagging.sort();
    lagging.dedup();
    Answer {
        confirmed: lagging.is_empty() && diagnostics.is_empty(),
        epoch: epoch.to_string(),
        proxies: progress.total,
        lagging,
        refusals,
        diagnostics,
    }
}
