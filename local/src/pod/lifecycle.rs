//! A pod from its first namespace to its last process.
//!
//! Coming: sandbox, then (meshed) interception and proxy, and only when the proxy is ready the
//! application. Going: the Pod object is marked first; when the endpoints say so and the proxy has
//! drained, the application is asked to end, then the proxy, and the namespaces go.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::container::{Process, Surroundings, through_proxy};
use super::pause::{self, Mount};
use super::proxy;
use super::sandbox::{Run, Sandbox};
use crate::supervisor::cluster::{Cluster, PodOrder, PodReport};
use crate::supervisor::control_plane;
use crate::workload::env::{self, Facts};
use crate::workload::template::Container;

/// How long a pod that cannot be set up waits before the next attempt.
const RETRY: Duration = Duration::from_secs(2);

/// Runs the pod until `order.delete` and everything of it is gone.
pub async fn run(cluster: Arc<Cluster>, order: PodOrder) {
    let report = cluster.report(&order);
    let dir = cluster.layout.pods().join(&order.uid);
    while !order.delete.is_cancelled() {
        match run_once(&cluster, &order, &report, &dir).await {
            Ok(()) => break,
            Err(error) => {
                warn!(pod = %report, "{error:#}");
                report.failed(format!("{error:#}"));
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = order.delete.cancelled() => {}
                }
            }
        }
    }
    if let Err(error) = std::fs::remove_dir_all(&dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        warn!(pod = %report, "removing {}: {error}", dir.display());
    }
    report.gone();
}

async fn run_once(
    cluster: &Arc<Cluster>,
    order: &PodOrder,
    report: &PodReport,
    dir: &Path,
) -> anyhow::Result<()> {
    if order.meshed {
        tokio::select! {
            () = control_plane::trust_bundle_written(&cluster.layout) => {}
            () = order.delete.cancelled() => return Ok(()),
        }
    }
    let spec = prepare(cluster, order, dir)?;
    let log = |name: &str| {
        cluster.log(&format!(
            "{}.{}.{name}",
            order.key.namespace, order.key.name
        ))
    };
    let local = &cluster.options.binaries.local;
    let sandbox = Sandbox::start(local, &spec, &order.veth, log("sandbox")?).await?;
    let sandbox = Arc::new(sandbox);
    report.sandbox(sandbox.pid());
    let surroundings = |name: &str| -> anyhow::Result<Surroundings> {
        Ok(Surroundings {
            sandbox: sandbox.clone(),
            ip: order.addresses.v4.into(),
            report: report.clone(),
            log: Arc::new(log(name)?),
        })
    };
    let (mut proxy_task, mut containers) = (JoinSet::new(), JoinSet::new());
    let result = async {
        let stop_proxy = CancellationToken::new();
        if order.meshed {
            let at = surroundings(proxy::CONTAINER)?;
            proxy::intercept(cluster, &at).await?;
            let process = proxy::process(cluster, order, dir)?;
            proxy_task.spawn(process.keep_running(at, stop_proxy.clone()));
            tokio::select! {
                () = report.container_ready(proxy::CONTAINER) => {}
                () = order.delete.cancelled() => {}
            }
        }
        let stop = CancellationToken::new();
        if !order.delete.is_cancelled() {
            for container in &order.template.containers {
                let process = application(order, container);
                containers
                    .spawn(process.keep_running(surroundings(&container.name)?, stop.clone()));
            }
        }
        order.delete.cancelled().await;
        report.removal_published().await;
        if order.meshed {
            proxy::wait_until_drained(dir, order.drain_limit()).await;
        }
        stop.cancel();
        while containers.join_next().await.is_some() {}
        stop_proxy.cancel();
        while proxy_task.join_next().await.is_some() {}
        anyhow::Ok(())
    }
    .await;
    // After an error there are tasks left, and they hold the sandbox.
    containers.shutdown().await;
    proxy_task.shutdown().await;
    if let Ok(sandbox) = Arc::try_unwrap(sandbox) {
        sandbox.destroy().await;
    }
    result
}

/// Lays out the pod's folder and says what its surroundings are.
fn prepare(cluster: &Cluster, order: &PodOrder, dir: &Path) -> anyhow::Result<pause::Spec> {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir.join("weft"))?;
    let template = &order.template;
    for (volume, files) in &template.volumes {
        let volume = dir.join("volumes").join(volume);
        std::fs::create_dir_all(&volume)?;
        open_to_all(&volume)?;
        for (path, content) in files {
            let path = volume.join(path);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&path, content)
                .with_context(|| format!("writing {}", path.display()))?;
        }
    }
    let uses = template
        .containers
        .iter()
        .flat_map(|container| &container.mounts);
    let mounts = uses.map(|volume| Mount {
        source: dir
            .join("volumes")
            .join(&volume.volume)
            .join(&volume.sub_path),
        target: volume.target.clone(),
        read_only: volume.read_only,
    });
    let files = template
        .containers
        .iter()
        .flat_map(|container| container.files.clone());
    Ok(pause::Spec {
        dir: dir.to_owned(),
        run_dir: cluster.layout.root().to_owned(),
        hostname: template
            .hostname
            .clone()
            .unwrap_or_else(|| order.key.name.clone()),
        v4: order.addresses.v4,
        v6: order.addresses.v6,
        namespace: order.key.namespace.clone(),
        files: files.collect::<Vec<(PathBuf, String)>>(),
        mounts: mounts.collect(),
    })
}

fn open_to_all(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777))
}

fn application(order: &PodOrder, container: &Container) -> Process {
    let facts = Facts {
        name: order.key.name.clone(),
        namespace: order.key.namespace.clone(),
        uid: order.uid.clone(),
        ips: order.addresses.both().to_vec(),
        service_account: order.template.service_account.clone(),
    };
    let mut variables = vec![("HOSTNAME".to_owned(), order.key.name.clone())];
    variables.extend(env::resolve(&container.env, &facts));
    let probes = if order.meshed {
        through_proxy(&container.probes, &container.name)
    } else {
        container.probes.clone()
    };
    Process {
        name: container.name.clone(),
        run: Run {
            argv: container
                .argv
                .iter()
                .map(|word| env::expand(word, &variables))
                .collect(),
            env: variables,
            cwd: container.working_dir.clone(),
            uid: container.uid,
            gid: container.gid,
        },
        probes,
        restart: order.template.restart,
        pre_stop: container.pre_stop.clone(),
        stop_signal: if container.stop_by_quit {
            Signal::QUIT
        } else {
            Signal::TERM
        },
        grace: Duration::from_secs(order.template.termination_grace_seconds),
    }
}

/// Opens a log for appending.
pub fn open_log(path: &Path) -> anyhow::Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
}
