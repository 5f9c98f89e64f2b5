//! `weft wait` in a cluster: the object as the API server has it now, compiled by every replica of the control plane and
//! confirmed by the streams of each.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use weft_api::Kind;

use super::{Arguments, split};
use crate::admin::{Refused, query_value};
use crate::cluster::{Cluster, Replica, is_ready};
use crate::output::{Format, counted, print, print_json};
use crate::proxy::ask_cluster;

/// Between two looks at what comes and goes.
const PAUSE: Duration = Duration::from_millis(500);

impl Arguments {
    pub(super) async fn cluster_object(&self, cluster: &Cluster, object: &str) -> Result<ExitCode> {
        let (kind, name) = split(object)?;
        let kind = kind_of(kind)?;
        let namespace = self.namespace.as_deref().unwrap_or(&cluster.namespace);
        let Some(found) = cluster.find(&path(kind, namespace, name)).await? else {
            let place = match kind.is_cluster_wide() {
                true => String::new(),
                false => format!(" in namespace {namespace} (-n names another)"),
            };
            bail!("there is no {}/{name}{place}", kind.as_str());
        };
        let question = format!(
            "/v1/wait?kind={}&namespace={}&name={}&{}",
            kind.as_str(),
            query_value(namespace),
            query_value(name),
            revision(&found)?
        );
        let deadline = Instant::now() + self.timeout;
        let replicas = cluster.replicas().await?;
        let answers = replicas
            .iter()
            .map(|replica| ask(replica, &question, deadline));
        let mut answers = join_all(answers).await.into_iter();
        let answers = answers.try_fold(Vec::new(), |mut all, answer| {
            all.extend(answer?);
            anyhow::Ok(all)
        })?;
        self.tell(object, &joined(&answers))
    }

    /// Polls, since what is waited for is spread over pods that come and go.
    pub(super) async fn whole_cluster(&self, cluster: &Cluster) -> Result<ExitCode> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let state = whole(cluster).await;
            let done = state
                .as_ref()
                .is_ok_and(|state| state["waitingFor"] == json!([]));
            if done || Instant::now() >= deadline {
                let state = state?;
                match self.output.output {
                    Format::Json => print_json(&state)?,
                    Format::Table => print(&sentence(&state))?,
                }
                return Ok(if done {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn kind_of(text: &str) -> Result<Kind> {
    let is_read = |kind: &Kind| weft_model::Kind::parse(kind.as_str()).is_some();
    let found = Kind::ALL.into_iter().filter(is_read);
    let mut found = found.filter(|kind| kind.as_str().eq_ignore_ascii_case(text));
    found.next().ok_or_else(|| {
        let kinds = weft_model::Kind::ALL.map(weft_model::Kind::as_str);
        anyhow!(
            "{text:?} is not a kind of the mesh; these are: {}",
            kinds.join(", ")
        )
    })
}

fn path(kind: Kind, namespace: &str, name: &str) -> String {
    let api = match kind.group() {
        "" => "/api".to_owned(),
        group => format!("/apis/{group}"),
    };
    let (version, plural) = (kind.version(), kind.plural());
    match kind.is_cluster_wide() {
        true => format!("{api}/{version}/{plural}/{name}"),
        false => format!("{api}/{version}/namespaces/{namespace}/{plural}/{name}"),
    }
}

/// Which state of the object is meant. A generation counts what people write; where there is none every write does.
fn revision(object: &Value) -> Result<String> {
    let metadata = &object["metadata"];
    if let Some(generation) = metadata["generation"].as_u64() {
        return Ok(format!("generation={generation}"));
    }
    let version = metadata["resourceVersion"].as_str();
    let version = version.context("the object has no resourceVersion")?;
    Ok(format!("resourceVersion={version}"))
}

/// A replica's answer; none of one that is not ready and cannot be reached, which has no streams.
async fn ask(replica: &Replica, question: &str, deadline: Instant) -> Result<Option<Value>> {
    let left = deadline
        .saturating_duration_since(Instant::now())
        .as_millis();
    let answer = replica
        .admin
        .get(&format!("{question}&timeout={left}"))
        .await;
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused) if refused.status == StatusCode::GATEWAY_TIMEOUT => Ok(Some(json!({
                "confirmed": false, "proxies": 0, "lagging": [format!("replica {}: {refused}", replica.pod)],
            }))),
            None if !replica.is_ready => Ok(None),
            _ => Err(error.context(format!("replica {}", replica.pod))),
        },
    }
}

/// All replicas' answers as one.
fn joined(answers: &[Value]) -> Value {
    let lists = |field: &str| -> Vec<Value> {
        let lists = answers.iter().filter_map(|answer| answer[field].as_array());
        let mut all: Vec<Value> = Vec::new();
        for one in lists.flatten() {
            // Each replica finds the same in an object.
            if !all.contains(one) {
                all.push(one.clone());
            }
        }
        all
    };
    let confirmed = answers.iter().all(|answer| answer["confirmed"] == true);
    let proxies: u64 = answers
        .iter()
        .filter_map(|answer| answer["proxies"].as_u64())
        .sum();
    json!({
        "confirmed": confirmed && !answers.is_empty(),
        "replicas": answers.len(),
        "proxies": proxies,
        "lagging": lists("lagging"),
        "refusals": lists("refusals"),
        "diagnostics": lists("diagnostics"),
    })
}

/// How far the mesh is: what it waits for, a text each.
async fn whole(cluster: &Cluster) -> Result<Value> {
    let mut waiting = Vec::new();
    for pod in cluster.control_plane_pods().await? {
        if !is_ready(&pod) && pod["metadata"]["deletionTimestamp"].is_null() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            waiting.push(format!("control plane {name}: not ready"));
        }
    }
    let status = ask_cluster(cluster).await?;
    let list = |field: &str| status[field].as_array().cloned().unwrap_or_default();
    let texts = |field: &str, state: &str| -> Vec<String> {
        let pods = list(field).into_iter();
        let names = pods.filter_map(|one| one["pod"].as_str().map(str::to_owned));
        names.map(|name| format!("pod {name}: {state}")).collect()
    };
    waiting.extend(texts("unconnected", "its proxy is not connected"));
    let behind = list("proxies")
        .into_iter()
        .filter(|one| one["upToDate"] != true);
    waiting.extend(behind.map(|one| {
        format!(
            "pod {}: its proxy is behind",
            one["pod"].as_str().unwrap_or_default()
        )
    }));
    Ok(json!({
        "waitingFor": waiting, "proxies": list("proxies").len(), "replicas": list("replicas").len(),
        "unmeshed": list("unmeshed"),
    }))
}

fn sentence(state: &Value) -> String {
    let count = |field: &str, one, many| {
        let count = state[field].as_u64().unwrap_or_default();
        counted(usize::try_from(count).unwrap_or(usize::MAX), one, many)
    };
    let waiting = state["waitingFor"].as_array().into_iter().flatten();
    let lines: String = waiting
        .map(|one| format!("  {}\n", one.as_str().unwrap_or_default()))
        .collect();
    if !lines.is_empty() {
        return format!("not everything is ready:\n{lines}");
    }
    let (proxies, replicas) = (
        count("proxies", "proxy", "proxies"),
        count("replicas", "replica", "replicas"),
    );
    let mut out = format!("ready: {proxies} connected to {replicas} of the control plane\n");
    let unmeshed = state["unmeshed"].as_array().map_or(0, Vec::len);
    if unmeshed > 0 {
        out += &format!(
            "but {} without a proxy in the mesh's namespaces: see `weft check`\n",
            counted(unmeshed, "pod is", "pods are")
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_in_force_when_every_replica_says_so() {
        let yes = json!({"confirmed": true, "proxies": 2, "lagging": [], "refusals": [], "diagnostics": []});
        let mut no = yes.clone();
        no["confirmed"] = false.into();
        no["lagging"] = json!(["shop/a"]);
        assert_eq!(joined(&[yes.clone(), yes.clone()])["confirmed"], true);
        let both = joined(&[yes, no]);
        assert_eq!(
            (&both["confirmed"], &both["proxies"]),
            (&json!(false), &json!(4))
        );
        assert_eq!(both["lagging"], json!(["shop/a"]));
        assert_eq!(joined(&[])["confirmed"], false, "nobody answered");
    }

    #[test]
    fn what_is_meant_is_said_by_generation_where_there_is_one() {
        let object = |metadata: Value| json!({"metadata": metadata});
        let route = object(json!({"generation": 3, "resourceVersion": "88"}));
        assert_eq!(revision(&route).unwrap(), "generation=3");
        assert_eq!(
            revision(&object(json!({"resourceVersion": "88"}))).unwrap(),
            "resourceVersion=88"
        );
        assert!(revision(&object(json!({}))).is_err());
    }

    #[test]
    fn kinds_are_found_where_the_api_server_has_them() {
        let at = |kind: &str| path(kind_of(kind).unwrap(), "shop", "a");
        assert_eq!(
            at("httproute"),
            "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/a"
        );
        assert_eq!(at("Service"), "/api/v1/namespaces/shop/services/a");
        assert_eq!(
            at("MeshConfig"),
            "/apis/mesh.weft.dev/v1alpha1/meshconfigs/a"
        );
        assert!(kind_of("Deployment").is_err());
    }
}
