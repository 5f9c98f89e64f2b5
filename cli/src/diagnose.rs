//! `weft diagnose`: everything that explains how a mesh is, in one file to send to somebody, with secrets taken out.

mod bundle;
mod redact;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use weft_inject::names::{INIT_CONTAINER, METRICS_PORT, PROXY_CONTAINER};

use crate::check::report;
use crate::cluster::{Cluster, ClusterFlags, Standing, meshed};
use crate::output::print;
use crate::proxy::{ADMIN_PORT, ask_cluster};
use bundle::Bundle;

/// Lines of each log, from its end.
const LINES: u32 = 2_000;
/// How many proxies are asked at a time.
const AT_ONCE: usize = 8;

/// What is read of the whole cluster; what belongs to namespaces is kept of the mesh's alone.
const KINDS: [(&str, &str); 20] = [
    ("namespaces", "/api/v1/namespaces"),
    ("nodes", "/api/v1/nodes"),
    ("pods", "/api/v1/pods"),
    ("services", "/api/v1/services"),
    ("events", "/api/v1/events"),
    ("secrets", "/api/v1/secrets"),
    (
        "trust-anchors",
        "/api/v1/configmaps?fieldSelector=metadata.name%3Dweft-trust",
    ),
    ("deployments", "/apis/apps/v1/deployments"),
    ("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices"),
    ("leases", "/apis/coordination.k8s.io/v1/leases"),
    (
        "networkpolicies",
        "/apis/networking.k8s.io/v1/networkpolicies",
    ),
    (
        "mutatingwebhookconfigurations",
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    ),
    (
        "httproutes",
        "/apis/gateway.networking.k8s.io/v1/httproutes",
    ),
    (
        "grpcroutes",
        "/apis/gateway.networking.k8s.io/v1/grpcroutes",
    ),
    (
        "gatewayclasses",
        "/apis/gateway.networking.k8s.io/v1/gatewayclasses",
    ),
    ("gateways", "/apis/gateway.networking.k8s.io/v1/gateways"),
    (
        "referencegrants",
        "/apis/gateway.networking.k8s.io/v1beta1/referencegrants",
    ),
    (
        "authorizationpolicies",
        "/apis/mesh.weft.dev/v1alpha1/authorizationpolicies",
    ),
    (
        "peerauthentications",
        "/apis/mesh.weft.dev/v1alpha1/peerauthentications",
    ),
    (
        "trafficpolicies",
        "/apis/mesh.weft.dev/v1alpha1/trafficpolicies",
    ),
];

/// Writes a .tar.gz with the objects of the mesh and of its namespaces, what `weft check` finds, the logs of the control plane and
/// of proxies, and what each of them says about itself. The data of Secrets, tokens, private keys and what applications are
/// told in their environment are taken out.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The file to write.
    #[arg(
        short = 'f',
        long,
        value_name = "FILE",
        default_value = "weft-diagnose.tar.gz"
    )]
    file: PathBuf,
    #[command(flatten)]
    cluster: ClusterFlags,
}

impl Arguments {
    pub(crate) async fn run(&self) -> Result<ExitCode> {
        let cluster = self.cluster.connect().await?;
        let mut bundle =
            Bundle::create(&self.file).with_context(|| self.file.display().to_string())?;
        bundle.json(
            "version.json",
            Ok(json!({"weft": env!("CARGO_PKG_VERSION")})),
        )?;
        bundle.json("kubernetes.json", cluster.get("/version").await)?;
        let namespaces = cluster.list("/api/v1/namespaces").await?;
        let pods = cluster.list("/api/v1/pods").await?;
        let standings = Standing::of_all(&pods, &namespaces, &cluster.system);
        let in_mesh = |namespace: &str| {
            let mut meshed = standings
                .iter()
                .filter(|(_, (_, standing))| *standing != Standing::Outside);
            namespace == cluster.system
                || meshed.any(|(name, _)| name.split('/').next() == Some(namespace))
        };
        for (name, path) in KINDS {
            let found = cluster.list(path).await.map(|items| {
                let items = items
                    .into_iter()
                    .filter(|item| item["metadata"]["namespace"].as_str().is_none_or(in_mesh));
                items
                    .map(|item| redact::object(item, name == "secrets"))
                    .collect::<Value>()
            });
            bundle.json(&format!("objects/{name}.json"), found)?;
        }
        bundle.json("check.json", report(&cluster).await)?;
        bundle.json("proxy-status.json", ask_cluster(&cluster).await)?;
        control_plane(&cluster, &mut bundle).await?;
        let meshed = meshed(&pods, &cluster.system).into_iter();
        let names: Vec<String> = meshed.map(|one| one.name).collect();
        proxies(&cluster, &names, &mut bundle).await?;
        let files = bundle.finish()?;
        print(&format!(
            "{}: {files} files; look through it before you send it\n",
            self.file.display()
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn control_plane(cluster: &Cluster, bundle: &mut Bundle) -> Result<()> {
    for pod in cluster.control_plane_pods().await? {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        logs(
            cluster,
            bundle,
            &cluster.system,
            name,
            "control-plane",
            "control-plane",
        )
        .await?;
    }
    for replica in cluster.replicas().await.unwrap_or_default() {
        for path in ["proxies", "diagnostics", "snapshot", "rotate-root"] {
            let answer = replica.admin.get(&format!("/v1/{path}")).await;
            bundle.json(
                &format!("control-plane/{}.{path}.json", replica.pod),
                answer,
            )?;
        }
        let metrics = replica.admin.get_text("/metrics").await;
        bundle.text(
            &format!("control-plane/{}.metrics.txt", replica.pod),
            metrics,
        )?;
    }
    Ok(())
}

async fn proxies(cluster: &Cluster, pods: &[String], bundle: &mut Bundle) -> Result<()> {
    let asked = pods.iter().map(|pod| async move {
        let (namespace, name) = pod.split_once('/').unwrap_or_default();
        let config = cluster
            .admin(namespace, name, ADMIN_PORT)
            .get("/config")
            .await;
        let metrics = cluster
            .admin(namespace, name, METRICS_PORT)
            .get_text("/metrics")
            .await;
        (namespace, name, config, metrics)
    });
    let mut asked = stream::iter(asked).buffered(AT_ONCE);
    while let Some((namespace, name, config, metrics)) = asked.next().await {
        bundle.json(&format!("proxies/{namespace}.{name}.config.json"), config)?;
        bundle.text(&format!("proxies/{namespace}.{name}.metrics.txt"), metrics)?;
        for container in [INIT_CONTAINER, PROXY_CONTAINER] {
            logs(cluster, bundle, namespace, name, container, "proxies").await?;
        }
    }
    Ok(())
}

/// What a container wrote last, and the one before it if it was restarted.
async fn logs(
    cluster: &Cluster,
    bundle: &mut Bundle,
    namespace: &str,
    pod: &str,
    container: &str,
    folder: &str,
) -> Result<()> {
    let path = format!(
        "/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}&tailLines={LINES}"
    );
    let log = cluster.text(&path).await;
    bundle.text(&format!("{folder}/{namespace}.{pod}.{container}.log"), log)?;
    if let Ok(log) = cluster.text(&format!("{path}&previous=true")).await {
        bundle.text(
            &format!("{folder}/{namespace}.{pod}.{container}.previous.log"),
            Ok(log),
        )?;
    }
    Ok(())
}
