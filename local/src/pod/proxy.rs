//! The proxy of a meshed pod: what it is told, how it proves who it is, and when it has drained.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::process::Command;
use tracing::warn;
use weft_inject::names::{HEALTH_PORT, PROXY_UID};

use super::container::{Process, Surroundings};
use super::pause::POD_WEFT_DIR;
use super::probe::{Probe, Probes};
use super::sandbox::Run;
use crate::http;
use crate::network::{GATEWAY_V4, GATEWAY_V6};
use crate::supervisor::cluster::{Cluster, PodOrder};
use crate::supervisor::control_plane;
use crate::workload::template::Restart;

/// The proxy's name among a pod's containers.
pub use weft_inject::names::PROXY_CONTAINER as CONTAINER;
/// The admin socket in the pod's folder.
const ADMIN_SOCKET: &str = "admin.sock";
/// How long a join token can be used. Long: a pod may wait for its control plane.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// The pace at which a draining proxy is asked.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// The admin socket of the proxy whose pod's folder is `dir`, as the supervisor reaches it.
pub fn admin_socket(dir: &Path) -> std::path::PathBuf {
    dir.join("weft").join(ADMIN_SOCKET)
}

/// Runs `weft-proxy init` in the pod, as root: from then on its traffic goes through the proxy or
/// nowhere.
pub async fn intercept(cluster: &Cluster, at: &Surroundings) -> anyhow::Result<()> {
    let proxy = cluster.options.binaries.proxy.display().to_string();
    let mut argv = vec![
        proxy,
        "init".to_owned(),
        "--proxy-uid".to_owned(),
        PROXY_UID.to_string(),
    ];
    // The bridge is this cluster's node: its DNS is asked over TCP, too, and is no part of the mesh.
    let node = format!("{GATEWAY_V4}/32,{GATEWAY_V6}/128");
    argv.extend(["--exclude-outbound-cidrs".to_owned(), node]);
    argv.extend(["--pod-ip".to_owned(), at.ip.to_string()]);
    argv.extend(["--host-ip".to_owned(), GATEWAY_V4.to_string()]);
    let run = Run {
        argv,
        env: Vec::new(),
        cwd: None,
        uid: 0,
        gid: 0,
    };
    let mut command: Command = at.sandbox.command(&run);
    command.stdin(std::process::Stdio::null());
    command
        .stdout(at.log.try_clone()?)
        .stderr(at.log.try_clone()?);
    let status = command.status().await.context("starting weft-proxy init")?;
    anyhow::ensure!(
        status.success(),
        "weft-proxy init failed ({status}); see the proxy's log"
    );
    Ok(())
}

/// Prepares the pod's folder and says how its proxy is run.
pub fn process(cluster: &Cluster, order: &PodOrder, dir: &Path) -> anyhow::Result<Process> {
    let weft = dir.join("weft");
    let state = weft.join("state");
    std::fs::create_dir_all(&state)?;
    // In memory, as the whole folder of the pod is, and there for as long as the pod.
    own(&state, 0o700)?;
    own(&weft, 0o755)?;
    let token = weft.join("token");
    std::fs::write(&token, join_token(cluster, order)?)?;
    own(&token, 0o600)?;
    let bundle = weft.join("trust-bundle.pem");
    std::fs::copy(control_plane::trust_bundle(&cluster.layout), &bundle)
        .context("the control plane has not written its trust bundle yet")?;
    Ok(Process {
        name: CONTAINER.to_owned(),
        run: Run {
            argv: arguments(cluster, order),
            env: cluster.options.env.clone().into_iter().collect(),
            cwd: None,
            uid: PROXY_UID,
            gid: PROXY_UID,
        },
        probes: Probes {
            readiness: Some(Probe::http_every_second(HEALTH_PORT, "/healthz/ready")),
            ..Probes::default()
        },
        restart: Restart::Always,
        pre_stop: None,
        stop_signal: Signal::TERM,
        grace: Duration::from_secs(5),
    })
}

fn own(path: &Path, mode: u32) -> anyhow::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    chown(path, Some(PROXY_UID), Some(PROXY_UID))?;
    Ok(())
}

fn arguments(cluster: &Cluster, order: &PodOrder) -> Vec<String> {
    let in_pod = |name: &str| format!("{POD_WEFT_DIR}/{name}");
    let mut argv = vec![
        cluster.options.binaries.proxy.display().to_string(),
        "run".to_owned(),
    ];
    let mut flag = |name: &str, value: String| argv.extend([format!("--{name}"), value]);
    flag("namespace", order.key.namespace.clone());
    flag("pod", order.key.name.clone());
    flag("service-account", order.template.service_account.clone());
    for ip in order.addresses.both() {
        flag("pod-ip", ip.to_string());
    }
    flag(
        "control-plane",
        format!("{GATEWAY_V4}:{}", control_plane::PORT),
    );
    flag("trust-domain", cluster.options.trust_domain.clone());
    flag("state-dir", in_pod("state"));
    flag("token-file", in_pod("token"));
    flag("trust-bundle", in_pod("trust-bundle.pem"));
    flag("proxy-uid", PROXY_UID.to_string());
    flag("admin-socket", in_pod(ADMIN_SOCKET));
    flag("probes", probes(order).to_string());
    argv.extend(cluster.options.proxy_args.iter().cloned());
    argv
}

/// The application's probes that the proxy carries out.
fn probes(order: &PodOrder) -> Value {
    let containers = order.template.containers.iter();
    let all = containers.flat_map(|container| container.probes.rewritten(&container.name));
    Value::Object(all.collect())
}

/// A fresh token; its record lets the control plane take it, once, for this pod.
fn join_token(cluster: &Cluster, order: &PodOrder) -> anyhow::Result<String> {
    let token = hex(&rand::random::<[u8; 32]>());
    let expires = SystemTime::now() + TOKEN_LIFETIME;
    let record = json!({
        "namespace": order.key.namespace,
        "pod": order.key.name,
        "expires": expires.duration_since(UNIX_EPOCH).map(|since| since.as_secs())?,
    });
    let records = cluster.layout.join_records();
    let name = hex(&Sha256::digest(token.as_bytes()));
    let unfinished = records.join(format!(".{name}"));
    std::fs::write(&unfinished, record.to_string())?;
    std::fs::rename(&unfinished, records.join(format!("{name}.json")))?;
    Ok(token)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until everyone has confirmed that this endpoint is gone and the proxy whose pod's folder is
/// `dir` carries nothing any more, at most for `limit`. A proxy that does not answer has nothing left to drain.
pub async fn wait_until_drained(dir: &Path, limit: Duration) {
    let socket = admin_socket(dir);
    let poll = async {
        loop {
            let path = "/drain-status";
            match http::unix(&socket, hyper::Method::GET, path, bytes::Bytes::new()).await {
                Ok((200, body)) => {
                    let status: Value = serde_json::from_slice(&body).unwrap_or_default();
                    if status["confirmed"] == true && status["openConnections"] == 0 {
                        return;
                    }
                }
                Ok((status, _)) => return warn!(status, "the proxy's drain status is not known"),
                Err(_) => return,
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
    };
    // At the limit the application is asked to end all the same: that is the promise.
    let _ = tokio::time::timeout(limit, poll).await;
}
