//! The process that runs a mesh inside its outer namespace: it plays kubelet, Deployment and
//! endpoint controller, kube-proxy and DNS, and keeps the control plane running. Its folder of YAML
//! comes in through `weft-source`; its orders come over a Unix socket ([`api`]).

pub mod api;
pub mod cluster;
pub mod control_plane;
pub mod endpoints;
pub mod exec;
pub mod folder;
pub mod objects;
pub mod publish;
pub mod reconcile;

use std::path::Path;

use anyhow::Context;
use rustix::mount::{MountFlags, mount};
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::network::{self, GATEWAY_V4, GATEWAY_V6, dns};
use crate::options::{Layout, Options};
use cluster::Cluster;

/// The hidden subcommand.
pub const COMMAND: &str = "local-supervisor";

/// Runs the mesh that `RUN_DIR/options.json` describes, until killed.
pub fn run(run_dir: &Path) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("WEFT_LOCAL_LOG")
                .unwrap_or_else(|_| "info".into()),
        )
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let options = std::fs::read(Layout::new(run_dir.to_owned()).options())?;
    let options: Options = serde_json::from_slice(&options).context("reading options.json")?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(supervise(options))
}

async fn supervise(options: Options) -> anyhow::Result<()> {
    let cluster = Cluster::new(options);
    let layout = &cluster.layout;
    std::fs::create_dir_all(layout.pods())?;
    mount(
        "tmpfs",
        layout.pods(),
        "tmpfs",
        MountFlags::empty(),
        c"mode=755",
    )
    .context("mounting a tmpfs for the pods")?;
    for dir in [layout.control_plane_state(), layout.join_records()] {
        std::fs::create_dir_all(dir)?;
    }
    let objects = objects::Folder::create(layout.generated())?;
    network::create_bridge()
        .await
        .context("creating the bridge")?;

    let mut tasks = JoinSet::new();
    let names = dns::Names::default();
    for gateway in [GATEWAY_V4.into(), GATEWAY_V6.into()] {
        let address = std::net::SocketAddr::new(gateway, 53);
        let (udp, tcp) = (
            UdpSocket::bind(address).await?,
            TcpListener::bind(address).await?,
        );
        let (for_udp, for_tcp) = (names.clone(), names.clone());
        tasks.spawn(async move { Ok(dns::serve_udp(udp, for_udp).await?) });
        tasks.spawn(async move { Ok(dns::serve_tcp(tcp, for_tcp).await?) });
    }
    let (want_control_plane, wanted) = watch::channel(cluster.options.start_control_plane);
    tasks.spawn(control_plane::run(cluster.clone(), wanted));
    tasks.spawn(folder::follow(cluster.clone()));
    tasks.spawn(reconcile::run(cluster.clone(), objects, names));
    tasks.spawn(publish::serve(
        cluster.clone(),
        UnixListener::bind(layout.publish_socket())?,
    ));
    // Last: who can connect finds everything else running.
    let socket = UnixListener::bind(layout.supervisor_socket())?;
    tasks.spawn(api::serve(cluster.clone(), want_control_plane, socket));
    match tasks.join_next().await {
        Some(Ok(Ok(()))) | None => Ok(()),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(panic)) => Err(panic).context("a part of the supervisor failed"),
    }
}
