//! The control plane's process, in the outer namespace: started, kept running, stopped on request.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tracing::{info, warn};

use super::cluster::Cluster;
use crate::network::GATEWAY_V4;
use crate::network::addresses::RANGES;
use crate::options::Layout;
use crate::pod::backoff::Backoff;

/// Where proxies find it on the bridge.
pub const PORT: u16 = 15010;
/// The pace at which its first bundle is waited for.
const BUNDLE_POLL: Duration = Duration::from_millis(50);
/// How long it may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// The bundle that it keeps for new pods.
pub fn trust_bundle(layout: &Layout) -> PathBuf {
    layout.control_plane_state().join("trust-bundle.pem")
}

/// Waits until a pod's proxy can be told whom to trust.
pub async fn trust_bundle_written(layout: &Layout) {
    let bundle = trust_bundle(layout);
    while !bundle.exists() {
        tokio::time::sleep(BUNDLE_POLL).await;
    }
}

/// Keeps the control plane running while `wanted` says so.
pub async fn run(cluster: Arc<Cluster>, mut wanted: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut backoff = Backoff::default();
    loop {
        wanted.wait_for(|wanted| *wanted).await.map(drop)?;
        let started = Instant::now();
        match spawn(&cluster) {
            Ok(mut child) => {
                cluster.update(|state| {
                    state.control_plane.pid = child.id();
                    state.control_plane.starts += 1;
                });
                let stop = async { wanted.wait_for(|wanted| !*wanted).await.map(drop) };
                let stopped = tokio::select! {
                    status = child.wait() => {
                        warn!(?status, "the control plane ended");
                        Ok(())
                    }
                    stopped = stop => {
                        end(&mut child).await;
                        info!("the control plane is stopped");
                        stopped
                    }
                };
                stopped?;
                cluster.update(|state| state.control_plane.pid = None);
            }
            Err(error) => warn!("the control plane does not start: {error:#}"),
        }
        if *wanted.borrow() {
            tokio::time::sleep(backoff.after(started.elapsed())).await;
        }
    }
}

fn spawn(cluster: &Cluster) -> anyhow::Result<Child> {
    let options = &cluster.options;
    let layout = &cluster.layout;
    let log = cluster.log("control-plane")?;
    let child = Command::new(&options.binaries.control_plane)
        .arg("run")
        .arg("--source")
        .arg(&options.folder)
        .arg("--source")
        .arg(layout.generated())
        .arg("--state")
        .arg(layout.control_plane_state())
        .arg("--join-dir")
        .arg(layout.join_records())
        .arg("--listen")
        .arg(format!("{GATEWAY_V4}:{PORT}"))
        .arg("--admin")
        .arg(format!("unix:{}", layout.control_plane_admin().display()))
        .arg("--trust-domain")
        .arg(&options.trust_domain)
        .args(RANGES.iter().flat_map(|range| ["--mesh-cidr", range]))
        .args(&options.control_plane_args)
        .envs(&options.env)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    Ok(child)
}

async fn end(child: &mut Child) {
    signal(child.id(), Signal::TERM);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Sends `signal` to the process; whether there was one.
pub fn signal(pid: Option<u32>, signal: Signal) -> bool {
    pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .is_some_and(|pid| kill_process(pid, signal).is_ok())
}
