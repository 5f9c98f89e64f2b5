//! One replica's part: it writes its own report while another one leads, and knows the others'.
//!
//! A report is a ConfigMap `weft-heard-POD` of the control plane's namespace that the pod owns: it
//! goes with it, and counts only while that pod is there. It is written when it would say something
//! else than what is there; the longer it is, the seldomer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use weft_identity::PodRef;
use weft_xds::Server;

use super::report::{Confirmations, KEY, Report, Reports};
use crate::authority::Authority;
use crate::kubernetes::changes::{self, Watched};
use crate::kubernetes::labels;
use crate::kubernetes::lease::Leadership;
use crate::mesh::{Mesh, Refusals};

/// Begins the names of the ConfigMaps, before the pod's.
const PREFIX: &str = "weft-heard-";
/// On all of them.
const LABEL: &str = "mesh.weft.dev/heard";
/// Owns their content.
const MANAGER: &str = "weft-control-plane/heard";
/// For one request.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between looks at what proxies say, for each so many pods that are told of.
const PAUSE: Duration = Duration::from_secs(1);
const PODS_PER_PAUSE: usize = 2000;

pub(crate) struct Heard {
    maps: Api<ConfigMap>,
    namespace: String,
    /// The pod that this replica is.
    pod: String,
    mesh: Arc<Mesh>,
    server: Server,
    authority: Arc<Authority>,
    leadership: watch::Receiver<Leadership>,
    others: watch::Sender<Reports>,
}

/// What is there of the reports.
#[derive(Default)]
struct Present {
    own: Option<Report>,
    others: Reports,
}

impl changes::Reconcile for Heard {
    const WHAT: &str = "what other replicas heard";

    async fn reconcile(&self) -> anyhow::Result<bool> {
        let present = self.present().await?;
        self.others.send_if_modified(|before| {
            let changed = *before != present.others;
            *before = present.others;
            changed
        });
        if self.leadership.borrow().leads() {
            return Ok(true);
        }
        let own = self.report();
        if present.own.as_ref() != Some(&own) {
            self.write(&own).await?;
        }
        Ok(true)
    }
}

impl Heard {
    pub fn new(
        client: Client,
        (namespace, pod): (&str, &str),
        mesh: Arc<Mesh>,
        server: Server,
        authority: Arc<Authority>,
        leadership: watch::Receiver<Leadership>,
    ) -> Self {
        Self {
            maps: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            mesh,
            server,
            authority,
            leadership,
            others: watch::Sender::default(),
        }
    }

    /// Takes part for ever, once every source has listed.
    pub async fn keep(&self, mut ready: watch::Receiver<bool>) {
        // An error means that everything is being dropped.
        let _ = ready.wait_for(|ready| *ready).await;
        let changed = Notify::new();
        tokio::select! {
            () = changes::tell(&self.maps, &Watched::Label(LABEL), &changed) => {}
            () = self.listen(&changed) => {}
            () = changes::follow(self, &changed, self.leadership.clone()) => {}
        }
    }

    /// What proxies refuse, of this replica and of the others.
    pub fn refusals(&self) -> Refusals {
        let mut refusals = self.mesh.refusals();
        self.others().add_to(&mut refusals);
        refusals
    }

    /// What the others that are there say. A report of a pod that went may be there for a while.
    pub fn others(&self) -> Reports {
        let mut reports = self.others.borrow().clone();
        let is_there = |pod: &str, uid: &str| self.uid(pod).is_some_and(|own| *own == *uid);
        reports.0.retain(|(pod, uid), _| is_there(pod, uid));
        reports
    }

    /// Changes with what the others say.
    pub fn changed(&self) -> watch::Receiver<Reports> {
        self.others.subscribe()
    }

    /// Tells `changed` when this replica hears something else, for ever.
    async fn listen(&self, changed: &Notify) {
        let mut progress = self.server.progress();
        let mut authority = self.authority.changed();
        let mut told = Report::default();
        loop {
            let now = self.report();
            if now != told {
                changed.notify_one();
            }
            let pods = u32::try_from(now.confirmed.len() / PODS_PER_PAUSE);
            told = now;
            sleep(PAUSE * (1 + pods.unwrap_or(0))).await;
            // Errors mean that everything is being dropped.
            let more = tokio::select! {
                more = progress.changed() => more,
                more = authority.changed() => more,
            };
            if more.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// What this replica has heard.
    fn report(&self) -> Report {
        // The step first: what is confirmed after it is of this step, or of a later one.
        let step = self.authority.rotation_step();
        let confirmed = match step {
            None => Confirmations::default(),
            Some(step) if step.is_announced => {
                Confirmations::new(step.name, &self.server.trust_holders())
            }
            Some(step) => Confirmations::new(step.name, &self.authority.renewed_pods()),
        };
        Report {
            refusals: self.mesh.refusals(),
            confirmed,
        }
    }

    async fn present(&self) -> anyhow::Result<Present> {
        // As many as there are replicas, and those of pods that went a moment ago.
        let params = ListParams::default().labels(LABEL);
        let found = timeout(PATIENCE, self.maps.list(&params)).await;
        let found = found.context("the API server does not answer")?;
        let mut present = Present::default();
        for map in found.context("cannot be listed")? {
            let name = map.metadata.name.as_deref().unwrap_or_default();
            let Some(pod) = name.strip_prefix(PREFIX).map(str::to_owned) else {
                continue;
            };
            let text = map.data.as_ref().and_then(|data| data.get(KEY));
            let report = match Report::from_json(text.map_or("", String::as_str)) {
                Ok(report) => report,
                Err(error) => {
                    tracing::warn!("ConfigMap {}/{name}: data[{KEY}]: {error}", self.namespace);
                    continue;
                }
            };
            if pod == self.pod {
                present.own = Some(report);
            } else if let Some(uid) = owner(&map) {
                present.others.0.insert((pod, uid), Arc::new(report));
            }
        }
        Ok(present)
    }

    /// The UID of a pod of the control plane's namespace that is there.
    fn uid(&self, pod: &str) -> Option<Arc<str>> {
        let pod = PodRef::new(&self.namespace, pod).ok()?;
        let facts = self.mesh.pod(&pod)?;
        (!facts.uid.is_empty()).then_some(facts.uid)
    }

    async fn write(&self, report: &Report) -> anyhow::Result<()> {
        // Outside a pod nobody would take the report away.
        let Some(uid) = self.uid(&self.pod) else {
            return Ok(());
        };
        let mut labels = labels();
        labels.insert(LABEL.to_owned(), String::new());
        let name = format!("{PREFIX}{}", self.pod);
        let patch = Patch::Apply(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "labels": labels,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": self.pod, "uid": *uid}],
            },
            "data": {KEY: report.to_json()},
        }));
        let params = PatchParams::apply(MANAGER).force();
        let written = timeout(PATIENCE, self.maps.patch(&name, &params, &patch)).await;
        let written = written.context("the API server does not answer")?;
        written.with_context(|| format!("ConfigMap {name} cannot be written"))?;
        Ok(())
    }
}

/// The UID of the pod that wrote it.
fn owner(map: &ConfigMap) -> Option<String> {
    let owner = map.metadata.owner_references.as_ref()?.first()?;
    Some(owner.uid.clone())
}
