//! Facts from a cluster: the API server is asked, and through it the replicas and, if wanted, every proxy. What cannot be
//! asked is noted, and holds up nothing else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use futures_util::stream::{self, StreamExt};
use http::Method;
use serde_json::{Value, json};
use weft_api::Kind;
use weft_inject::names::{ENABLED, INJECT};
use weft_install::names::{CONTROL_PLANE, INJECTOR};

use super::access;
use super::catalogue::Stage;
use super::facts::{Clock, Facts, ReplicaFacts, Root, list, text};
use crate::cluster::{Cluster, meshed};
use crate::proxy::{ADMIN_PORT, ask_cluster};

/// How many things are asked at a time.
const AT_ONCE: usize = 8;
/// A node's Lease is renewed this often, and may wait a little.
const NODE_LEASE: i64 = 60;

/// What makes pods.
const WORKLOADS: [(&str, &str); 5] = [
    ("Deployment", "/apis/apps/v1/deployments"),
    ("StatefulSet", "/apis/apps/v1/statefulsets"),
    ("DaemonSet", "/apis/apps/v1/daemonsets"),
    ("Job", "/apis/batch/v1/jobs"),
    ("CronJob", "/apis/batch/v1/cronjobs"),
];

/// Gathers what the checks of a stage need.
pub(crate) async fn facts(cluster: &Cluster, stage: Stage) -> Result<Facts> {
    let mut facts = Facts {
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        system: cluster.system.clone(),
        kubernetes: cluster
            .get("/version")
            .await
            .context("there is no way to the cluster")?,
        ..Facts::default()
    };
    let clock = ServerClock::read(cluster).await?;
    facts.now = clock.now();
    facts.clocks.push(Clock {
        whose: "this machine".into(),
        ahead: -clock.offset,
    });
    lists(cluster, &mut facts).await;
    node_clocks(cluster, &clock, &mut facts).await;
    let wanted = match stage {
        Stage::Before => access::of_installer(&cluster.system)?,
        Stage::After | Stage::Proxies => access::of_control_plane(&cluster.system)?,
    };
    facts.access = note(
        &mut facts,
        "permissions",
        access::ask(cluster, wanted, AT_ONCE).await,
    );
    if stage != Stage::Before && !facts.deployment.is_null() {
        replicas(cluster, &clock, &mut facts).await;
        facts.injection = trial(cluster, &mut facts).await;
    }
    if stage == Stage::Proxies {
        proxies(cluster, &clock, &mut facts).await;
    }
    Ok(facts)
}

/// The value, or its default and a note why it is not known.
fn note<T: Default>(facts: &mut Facts, what: &str, asked: Result<T>) -> T {
    asked.unwrap_or_else(|error| {
        facts
            .unanswered
            .push((what.to_owned(), format!("{error:#}")));
        T::default()
    })
}

/// The API server's clock as this machine sees it.
struct ServerClock {
    /// Seconds that it is ahead of this machine's.
    offset: i64,
}

impl ServerClock {
    async fn read(cluster: &Cluster) -> Result<Self> {
        let date = cluster.date().await?;
        Ok(Self {
            offset: seconds(date) - seconds(SystemTime::now()),
        })
    }

    fn now(&self) -> i64 {
        seconds(SystemTime::now()) + self.offset
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

async fn lists(cluster: &Cluster, facts: &mut Facts) {
    let system = &cluster.system;
    facts.crds = note(
        facts,
        "CRDs",
        cluster
            .list("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
            .await,
    );
    facts.namespaces = note(
        facts,
        "namespaces",
        cluster.list("/api/v1/namespaces").await,
    );
    facts.pods = note(facts, "pods", cluster.list("/api/v1/pods").await);
    for (kind, path) in WORKLOADS {
        let found = note(facts, path, cluster.list(path).await);
        facts
            .workloads
            .extend(found.into_iter().map(|one| of_kind(one, kind)));
    }
    let is_control_plane =
        |one: &&Value| one["kind"] == "Deployment" && one["metadata"]["name"] == CONTROL_PLANE;
    facts.deployments = facts
        .workloads
        .iter()
        .filter(is_control_plane)
        .cloned()
        .collect();
    let own = facts
        .deployments
        .iter()
        .find(|one| one["metadata"]["namespace"] == *system);
    facts.deployment = own.cloned().unwrap_or_default();
    for kind in Kind::ALL.into_iter().filter(|kind| {
        kind.group().contains('.') && weft_model::Kind::parse(kind.as_str()).is_some()
    }) {
        // These have no status of ours alone: replicas' findings speak of them.
        if matches!(
            kind,
            Kind::EndpointSlice | Kind::GatewayClass | Kind::Gateway | Kind::ReferenceGrant
        ) {
            continue;
        }
        let path = format!(
            "/apis/{}/{}/{}",
            kind.group(),
            kind.version(),
            kind.plural()
        );
        let found = note(facts, &path, cluster.list(&path).await);
        facts
            .objects
            .extend(found.into_iter().map(|one| of_kind(one, kind.as_str())));
    }
    let path =
        format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{INJECTOR}");
    facts.webhook = note(
        facts,
        "the webhook's configuration",
        cluster.find(&path).await,
    )
    .unwrap_or_default();
    let anchors = cluster
        .list("/api/v1/configmaps?fieldSelector=metadata.name%3Dweft-trust")
        .await;
    facts.anchors = note(facts, "ConfigMaps with trust anchors", anchors);
    let own = facts
        .anchors
        .iter()
        .find(|map| map["metadata"]["namespace"] == *system);
    let pem = own
        .map(|map| text(&map["data"]["bundle.pem"]).to_owned())
        .unwrap_or_default();
    facts.roots = note(facts, "the trust anchors", roots(&pem));
}

/// Items of a list do not say of what kind they are.
fn of_kind(mut object: Value, kind: &str) -> Value {
    object["kind"] = kind.into();
    object
}

fn roots(pem: &str) -> Result<Vec<Root>> {
    let blocks = pem::parse_many(pem).context("they are no PEM")?;
    let roots = blocks.iter().map(|block| {
        let (_, certificate) = x509_parser::parse_x509_certificate(block.contents())?;
        let validity = certificate.validity();
        Ok(Root {
            subject: certificate.subject().to_string(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    });
    roots.collect()
}

/// A node renews its Lease by its own clock: a renewal in the future, or long ago by one that is alive, tells of a clock that
/// is off.
async fn node_clocks(cluster: &Cluster, clock: &ServerClock, facts: &mut Facts) {
    let nodes = note(facts, "nodes", cluster.list("/api/v1/nodes").await);
    let leases = cluster
        .list("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")
        .await;
    let leases = note(facts, "Leases of nodes", leases);
    let now = clock.now();
    for lease in &leases {
        let name = text(&lease["metadata"]["name"]);
        let Some(node) = nodes.iter().find(|node| node["metadata"]["name"] == name) else {
            continue;
        };
        let Some(renewed) = timestamp(text(&lease["spec"]["renewTime"])) else {
            continue;
        };
        let ahead = renewed - now;
        let behind = crate::cluster::is_ready(node) && -ahead > NODE_LEASE;
        if ahead > 0 || behind {
            facts.clocks.push(Clock {
                whose: format!("node {name}"),
                ahead,
            });
        }
    }
}

/// `2026-01-01T00:00:00.000000Z` in seconds since 1970.
fn timestamp(text: &str) -> Option<i64> {
    let format = &time::format_description::well_known::Rfc3339;
    let time = time::OffsetDateTime::parse(text, format).ok()?;
    Some(time.unix_timestamp())
}

async fn replicas(cluster: &Cluster, clock: &ServerClock, facts: &mut Facts) {
    // That none runs is for another check to say.
    for replica in cluster.replicas().await.unwrap_or_default() {
        let mut found = ReplicaFacts {
            pod: replica.pod.clone(),
            ..ReplicaFacts::default()
        };
        // A replica that does not answer is named with its streams.
        found.metrics = replica.admin.get_text("/metrics").await.ok();
        if let Ok((answer, date)) = replica.admin.get_dated("/v1/diagnostics").await {
            found.diagnostics = list(&answer["diagnostics"]).cloned().collect();
            let ahead = date.map(|date| seconds(date) - clock.now());
            facts.clocks.extend(ahead.map(|ahead| Clock {
                whose: format!("replica {}", replica.pod),
                ahead,
            }));
        }
        facts.replicas.push(found);
    }
    facts.status = match facts.replicas.is_empty() {
        true => Value::Null,
        false => note(facts, "proxies", ask_cluster(cluster).await),
    };
}

/// What would come of a pod that asks for a proxy; it is not made.
async fn trial(cluster: &Cluster, facts: &mut Facts) -> Option<Result<Value, String>> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "weft-check-", "labels": {(INJECT): ENABLED}},
        "spec": {"containers": [{"name": "it", "image": "weft/check"}]},
    });
    let path = "/api/v1/namespaces/default/pods?dryRun=All";
    match cluster
        .ask(
            Method::POST,
            path,
            "application/json",
            pod.to_string().into_bytes(),
        )
        .await
    {
        Ok(made) => Some(Ok(made)),
        Err(error) => {
            let text = format!("{:#}", error.root_cause());
            // Anything else is the namespace's business: a quota, a policy, a missing permission.
            if text.contains("failed calling webhook") {
                return Some(Err(text));
            }
            facts
                .unanswered
                .push(("a pod as a trial in namespace default".into(), text));
            None
        }
    }
}

async fn proxies(cluster: &Cluster, clock: &ServerClock, facts: &mut Facts) {
    let meshed = meshed(&facts.pods, &facts.system).into_iter();
    let running = meshed.filter(|one| one.pod["status"]["phase"] == "Running");
    let names: Vec<String> = running.map(|one| one.name).collect();
    let answers = names.iter().map(|pod| async move {
        let (namespace, name) = pod.split_once('/').unwrap_or_default();
        let answer = cluster
            .admin(namespace, name, ADMIN_PORT)
            .get_dated("/config")
            .await;
        let answer =
            answer.map(|(config, date)| (config, date.map(|date| seconds(date) - clock.now())));
        (pod.clone(), answer.map_err(|error| format!("{error:#}")))
    });
    let answers: Vec<_> = stream::iter(answers).buffered(AT_ONCE).collect().await;
    for (pod, answer) in answers {
        if let Ok((_, Some(ahead))) = &answer {
            facts.clocks.push(Clock {
                whose: format!("pod {pod}"),
                ahead: *ahead,
            });
        }
        facts.proxies.push((pod, answer.map(|(config, _)| config)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_kubernetes_writes_them() {
        assert_eq!(timestamp("1970-01-01T00:01:00.000000Z"), Some(60));
        assert_eq!(timestamp("1970-01-01T00:01:00Z"), Some(60));
        assert_eq!(timestamp(""), None);
    }
}
