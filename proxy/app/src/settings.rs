//! Settings: what was written on the command line or in the environment → what the proxy runs with.
//!
//! Flags and environment are read here once; everything further in gets resolved values.

mod flags;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use weft_identity::{PodRef, TrustDomain};
use weft_proxy_net::Role;

use crate::probes::Probes;
pub use flags::{Command, CommandLine, InitFlags, RunFlags};
use flags::{KeyExchange, Switch};

/// What the proxy runs with.
#[derive(Debug)]
pub struct Settings {
    /// The pod.
    pub pod: PodRef,
    /// Its service account.
    pub service_account: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Trust domain of the mesh.
    pub trust_domain: TrustDomain,
    /// `host:port`.
    pub control_plane: String,
    /// PEM file.
    pub trust_bundle: PathBuf,
    /// Token file; without one only a certificate from an earlier run opens the door.
    pub token_file: Option<PathBuf>,
    /// State directory; without one nothing outlives the process.
    pub state_dir: Option<PathBuf>,
    /// Redirected connections are expected.
    pub interception: bool,
    /// Explicit listeners.
    pub listeners: Vec<(SocketAddr, Role)>,
    /// At least 1.
    pub workers: usize,
    /// Connections open at once.
    pub max_connections: usize,
    /// Key exchange of hops.
    pub key_exchange: weft_certs::KeyExchange,
    /// After SIGTERM.
    pub drain_timeout: Duration,
    /// Silence after which the other end of a connection is asked whether it is there.
    pub keepalive: Duration,
    /// The application's probes.
    pub probes: Probes,
    /// Loopback.
    pub admin: SocketAddr,
    /// Unix socket of the admin interface.
    pub admin_socket: Option<PathBuf>,
    /// Port of /metrics.
    pub metrics_port: u16,
    /// Port of readiness and probes.
    pub health_port: u16,
    /// Write the access log.
    pub access_log: bool,
    /// Filter of the proxy's own log.
    pub log: String,
}

impl RunFlags {
    /// Checks and resolves.
    ///
    /// # Errors
    /// Names the flag that cannot be used.
    pub fn resolve(self) -> anyhow::Result<Settings> {
        if let Some(uid) = self.proxy_uid {
            let own = rustix::process::getuid().as_raw();
            anyhow::ensure!(
                uid == own,
                "--proxy-uid is {uid} but the proxy was started under user {own}, whose connections would be led back to it"
            );
        }
        anyhow::ensure!(
            self.admin.ip().is_loopback(),
            "--admin must be a loopback address, not {}",
            self.admin
        );
        let listeners = self.listeners()?;
        let addresses: Vec<_> = self.pod_ips.iter().map(IpAddr::to_canonical).collect();
        anyhow::ensure!(
            !addresses.iter().any(IpAddr::is_unspecified),
            "--pod-ip must be an address of the pod"
        );
        Ok(Settings {
            pod: PodRef::new(&self.namespace, &self.pod).context("--namespace, --pod")?,
            service_account: self.service_account,
            addresses,
            trust_domain: TrustDomain::new(&self.trust_domain).context("--trust-domain")?,
            control_plane: self.control_plane,
            trust_bundle: self.trust_bundle,
            token_file: self.token_file,
            state_dir: self.state_dir,
            interception: self.interception == Switch::On,
            listeners,
            workers: match self.workers {
                0 => std::thread::available_parallelism().map_or(1, Into::into),
                n => n,
            },
            max_connections: self.max_connections,
            key_exchange: match self.key_exchange {
                KeyExchange::PostQuantum => weft_certs::KeyExchange::PostQuantum,
                KeyExchange::X25519 => weft_certs::KeyExchange::X25519,
            },
            drain_timeout: Duration::from_secs(self.drain_timeout),
            keepalive: Duration::from_secs(self.keepalive),
            probes: Probes::parse(&self.probes).context("--probes")?,
            admin: self.admin,
            admin_socket: self.admin_socket,
            metrics_port: self.metrics_port,
            health_port: self.health_port,
            access_log: self.access_log == Switch::On,
            log: self.log,
        })
    }
}

impl RunFlags {
    fn listeners(&self) -> anyhow::Result<Vec<(SocketAddr, Role)>> {
        let outbound = self.outbound_listeners.iter().map(|pair| {
            let to = pair.resolve().context("--outbound-listener")?;
            Ok((pair.listen, Role::OutboundTo(to)))
        });
        let inbound = self.inbound_listeners.iter().map(|pair| {
            let app = pair.resolve().context("--inbound-listener")?;
            let pod = pair.listen;
            Ok((pair.listen, Role::InboundTo { pod, app }))
        });
        outbound.chain(inbound).collect()
    }
}

#[cfg(test)]
mod tests;
