//! The inner end of `--publish`: the host hands over a connection with one line that names the
//! Service, and it is joined to that Service as any program outside the mesh would reach it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tracing::warn;

use super::cluster::Cluster;
use crate::workload::Key;

/// Serves connections until dropped.
pub async fn serve(cluster: Arc<Cluster>, listener: UnixListener) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let cluster = cluster.clone();
        connections.spawn(async move {
            if let Err(error) = join(&cluster, stream).await {
                warn!("published connection: {error:#}");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn join(cluster: &Cluster, stream: UnixStream) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let address = destination(cluster, line.trim_end())?;
    let mut target = TcpStream::connect(address)
        .await
        .with_context(|| format!("connecting to {} at {address}", line.trim_end()))?;
    target.set_nodelay(true)?;
    // Bytes that came with the line.
    target.write_all(stream.buffer()).await?;
    let mut stream = stream.into_inner();
    // A reset on either side is an end like any other here.
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut target).await;
    Ok(())
}

/// `namespace/service:port` → one of the Service's pods.
fn destination(cluster: &Cluster, line: &str) -> anyhow::Result<SocketAddr> {
    let (name, port) = line.rsplit_once(':').context("no port")?;
    let (namespace, name) = name.split_once('/').context("no namespace")?;
    let key = Key::new(namespace, name);
    cluster.read(|state| {
        let service = state.services.iter().find(|service| service.key == key);
        let service = service.with_context(|| format!("there is no Service {key}"))?;
        let index = service
            .ports
            .iter()
            .position(|of| of.name == port || of.number.to_string() == port)
            .with_context(|| format!("Service {key} has no port {port}"))?;
        // The outer namespace has no route to Service addresses, which lead to the same pods.
        let targets = service.targets();
        anyhow::ensure!(!targets.is_empty(), "Service {key} has no ready pod");
        let endpoint = targets[rand::random_range(0..targets.len())];
        let port =
            endpoint.ports[index].with_context(|| format!("{} has no such port", endpoint.pod))?;
        Ok(SocketAddr::new(endpoint.addresses.v4.into(), port))
    })
}
