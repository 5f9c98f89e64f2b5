//! The leader's task that writes status: where what an object shows is not what it should say, and
//! nowhere else.
//!
//! What is written over is what the watch showed, by its resource version: if somebody else was
//! faster, the API server refuses, and the newer state is waited for. An object that was written
//! is left alone until the watch shows the result.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use futures_util::stream;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use weft_model::ObjectKey;
use weft_source::kubernetes::{Shown, Status};

use super::merge::difference;
use super::{Desired, MANAGER, desired};
use crate::kubernetes::Outage;
use crate::kubernetes::heard::replica::Heard;
use crate::kubernetes::lease::Leadership;
use crate::mesh::{Mesh, Refusals};

/// After a look: a burst of changes is one.
const PAUSE: Duration = Duration::from_millis(250);
/// Between looks at what proxies refuse: each of their answers may have changed it.
const REFUSALS_PAUSE: Duration = Duration::from_secs(1);
/// Requests at one time.
const AT_ONCE: usize = 8;
/// From one request to the next, at least.
const SPACING: Duration = Duration::from_millis(20);
/// How long the result of a write may take to be shown; then it is tried again, later each time.
const PATIENCE: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// How the last write of an object went.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    /// The version that it was to write over.
    version: u64,
    /// While the object shows that version, it is left alone until then.
    until: Instant,
    /// For the next one.
    pause: Duration,
}

/// A status to be written.
#[derive(Clone, Debug)]
struct Write {
    key: ObjectKey,
    version: u64,
    status: Value,
}

pub(crate) struct StatusWriter {
    client: Client,
    mesh: Arc<Mesh>,
    /// What proxies refuse.
    heard: Arc<Heard>,
    /// Changes with what those of this replica do, and oftener.
    progress: watch::Receiver<u64>,
    leadership: watch::Receiver<Leadership>,
    /// Becomes true once every source has listed.
    ready: watch::Receiver<bool>,
}

impl StatusWriter {
    pub fn new(
        client: Client,
        mesh: Arc<Mesh>,
        heard: Arc<Heard>,
        progress: watch::Receiver<u64>,
        leadership: watch::Receiver<Leadership>,
        ready: watch::Receiver<bool>,
    ) -> Self {
        Self {
            client,
            mesh,
            heard,
            progress,
            leadership,
            ready,
        }
    }

    /// Writes for ever.
    pub async fn keep(&self) {
        let mut ready = self.ready.clone();
        // Errors of these mean that everything is being dropped.
        let _ = ready.wait_for(|ready| *ready).await;
        let Some(shown) = self.mesh.shown() else {
            return std::future::pending().await;
        };
        let mut leadership = self.leadership.clone();
        let mut published = self.mesh.published();
        let mut news = shown.changed();
        let mut outage = Outage::default();
        let mut attempts = HashMap::new();
        loop {
            let _ = leadership.wait_for(Leadership::leads).await;
            published.borrow_and_update();
            news.borrow_and_update();
            let refusals = self.heard.refusals();
            let due = self.due(&shown, &refusals, &mut attempts);
            let written = self.write(due, &mut attempts).await;
            outage.note("status of objects", &written);
            sleep(PAUSE).await;
            let next = attempts.values().map(|attempt| attempt.until).min();
            let next = next.unwrap_or_else(|| Instant::now() + LAST_RETRY);
            tokio::select! {
                _ = published.changed() => {}
                _ = news.changed() => {}
                () = self.other_than(&refusals) => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Returns when proxies refuse something else.
    async fn other_than(&self, before: &Refusals) {
        let mut progress = self.progress.clone();
        let mut others = self.heard.changed();
        loop {
            progress.borrow_and_update();
            others.mark_unchanged();
            if self.heard.refusals() != *before {
                return;
            }
            sleep(REFUSALS_PAUSE).await;
            let more = tokio::select! {
                more = progress.changed() => more,
                more = others.changed() => more,
            };
            if more.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// What is to be written now. Forgets attempts that are of no account any more.
    fn due(
        &self,
        shown: &Shown,
        refusals: &Refusals,
        attempts: &mut HashMap<ObjectKey, Attempt>,
    ) -> Vec<Write> {
        // In this order: what is shown is as old as what is compiled, or says that it is newer.
        let published = *self.mesh.published().borrow();
        let mut shown = shown.all();
        shown.retain(|_, status| status.since <= published);
        let facts = self.mesh.facts(shown.keys());
        attempts.retain(|key, attempt| {
            let status = shown.get(key);
            status.is_some_and(|status| status.version == attempt.version)
        });
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let instant = Instant::now();
        let mut due = Vec::new();
        for (key, status) in &shown {
            let waits = attempts.get(key).is_some_and(|last| instant < last.until);
            let desired = facts
                .get(key)
                .and_then(|facts| desired(key, status, facts, refusals));
            match desired {
                Some(desired) if !waits => due.extend(write(key, status, &desired, &now)),
                _ => {}
            }
        }
        // What says the right thing by now needs no other attempt.
        attempts
            .retain(|key, last| instant < last.until || due.iter().any(|write| write.key == *key));
        due
    }

    /// Writes, each for itself; returns the last error.
    async fn write(
        &self,
        due: Vec<Write>,
        attempts: &mut HashMap<ObjectKey, Attempt>,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        let requests = due.into_iter().zip(0u32..).map(|(write, nth)| async move {
            sleep_until(begun + SPACING * nth).await;
            let result = self.patch(&write).await;
            (write, result)
        });
        let mut requests = stream::iter(requests).buffer_unordered(AT_ONCE);
        let mut failed = Ok(());
        while let Some((write, result)) = requests.next().await {
            let before = attempts.get(&write.key).map(|attempt| attempt.pause);
            let first = if result.is_ok() {
                PATIENCE
            } else {
                FIRST_RETRY
            };
            let pause = before.unwrap_or(first);
            let attempt = Attempt {
                version: write.version,
                until: Instant::now() + pause,
                pause: (pause * 2).min(LAST_RETRY),
            };
            if let Err(error) = result {
                failed = Err(error.context(format!("{} cannot be written", write.key)));
            }
            attempts.insert(write.key, attempt);
        }
        failed
    }

    async fn patch(&self, write: &Write) -> anyhow::Result<()> {
        let deadline = self.leadership.borrow().deadline();
        let deadline = deadline.context("this replica leads no longer")?;
        let Some(resource) = resource(&write.key) else {
            return Ok(());
        };
        let objects: Api<DynamicObject> = match &*write.key.namespace {
            "" => Api::all_with(self.client.clone(), &resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &resource),
        };
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": write.version.to_string()},
            "status": write.status,
        }));
        let patched = objects.patch_status(&write.key.name, &params, &patch);
        let answer = timeout_at(deadline, patched).await;
        match answer.context("the API server does not answer")? {
            Ok(_) => Ok(()),
            // Another version, or none any more: the watch will show it.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn write(key: &ObjectKey, shown: &Status, desired: &Desired, now: &str) -> Option<Write> {
    Some(Write {
        key: key.clone(),
        version: shown.version,
        status: difference(&shown.status, desired, now)?,
    })
}

/// How the API server names objects of the key's kind.
fn resource(key: &ObjectKey) -> Option<ApiResource> {
    let mut kinds = weft_api::Kind::ALL.into_iter();
    let kind = kinds.find(|kind| kind.as_str() == key.kind.as_str())?;
    let named = GroupVersionKind::gvk(kind.group(), kind.version(), kind.as_str());
    Some(ApiResource::from_gvk(&named))
}
