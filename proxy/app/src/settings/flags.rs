//! The command line and the environment as they are written: every flag, its help, its default.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::intercept::Interception;

/// Weft's proxy: stands beside one workload and carries its traffic, encrypted, authenticated,
/// balanced and authorised.
#[derive(Debug, Parser)]
#[command(name = "weft-proxy", version, max_term_width = 100)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The two things it can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lead the pod's TCP through the proxy (nftables table `inet weft`), then exit.
    ///
    /// Runs once per pod, in its network namespace, with CAP_NET_ADMIN, before the proxy and the
    /// application. Running it again replaces the table atomically. Everything that is sent or
    /// received over TCP goes through the proxy, but for loopback, the proxy's own user, ports 15020
    /// and 15021, and what is excluded here. The network namespace of a node is refused.
    Init(InitFlags),
    /// Run the proxy until SIGTERM.
    ///
    /// It asks the control plane for a certificate and for configuration; until it has both, it is not
    /// ready and lets nothing in. SIGTERM lets open connections finish, for --drain-timeout at most; a
    /// second one ends them at once.
    Run(Box<RunFlags>),
}

/// Flags of `init`.
#[derive(Debug, Args)]
pub struct InitFlags {
    /// User ID that the proxy runs under; its traffic is exempt.
    #[arg(
        long,
        env = "WEFT_PROXY_UID",
        default_value_t = 1337,
        value_name = "UID"
    )]
    pub(super) proxy_uid: u32,
    /// Destination ports that the application reaches without the proxy.
    #[arg(
        long,
        env = "WEFT_EXCLUDE_OUTBOUND_PORTS",
        value_delimiter = ',',
        value_name = "PORT"
    )]
    exclude_outbound_ports: Vec<u16>,
    /// Destinations that the application reaches without the proxy.
    #[arg(
        long,
        env = "WEFT_EXCLUDE_OUTBOUND_CIDRS",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    exclude_outbound_cidrs: Vec<IpNet>,
    /// Ports of the pod that are reached without the proxy.
    #[arg(
        long,
        env = "WEFT_EXCLUDE_INBOUND_PORTS",
        value_delimiter = ',',
        value_name = "PORT"
    )]
    exclude_inbound_ports: Vec<u16>,
    /// Addresses of the pod: a network namespace that has none of them is refused.
    #[arg(
        long = "pod-ip",
        env = "WEFT_POD_IPS",
        value_delimiter = ',',
        value_name = "IP"
    )]
    pub pod_ips: Vec<IpAddr>,
    /// Addresses of the pod's node: a network namespace that has one of them is refused.
    #[arg(
        long = "host-ip",
        env = "WEFT_HOST_IPS",
        value_delimiter = ',',
        value_name = "IP"
    )]
    pub host_ips: Vec<IpAddr>,
    /// Enter this network namespace first, for who sets pods up from outside (a CNI plugin).
    #[arg(long, value_name = "PATH")]
    pub netns: Option<PathBuf>,
    /// Print the table and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

impl InitFlags {
    /// What is to be intercepted.
    pub fn interception(&self) -> Interception {
        Interception {
            proxy_uid: self.proxy_uid,
            exclude_outbound_ports: self.exclude_outbound_ports.clone(),
            exclude_outbound_cidrs: self.exclude_outbound_cidrs.clone(),
            exclude_inbound_ports: self.exclude_inbound_ports.clone(),
        }
    }
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunFlags {
    /// Namespace of the pod.
    #[arg(
        long,
        env = "WEFT_NAMESPACE",
        value_name = "NAME",
        help_heading = "Who it is"
    )]
    pub(super) namespace: String,
    /// Name of the pod.
    #[arg(
        long,
        env = "WEFT_POD",
        value_name = "NAME",
        help_heading = "Who it is"
    )]
    pub(super) pod: String,
    /// Service account of the pod.
    #[arg(
        long,
        env = "WEFT_SERVICE_ACCOUNT",
        default_value = "default",
        value_name = "NAME",
        help_heading = "Who it is"
    )]
    pub(super) service_account: String,
    /// An address of the pod; once for each, or separated by commas.
    #[arg(
        long = "pod-ip",
        env = "WEFT_POD_IPS",
        required = true,
        value_delimiter = ',',
        value_name = "IP",
        help_heading = "Who it is"
    )]
    pub(super) pod_ips: Vec<IpAddr>,
    /// Trust domain of the mesh.
    #[arg(
        long,
        env = "WEFT_TRUST_DOMAIN",
        default_value = "cluster.local",
        value_name = "DOMAIN",
        help_heading = "Who it is"
    )]
    pub(super) trust_domain: String,

    /// The control plane, host:port. A name is looked up again at each connection.
    #[arg(
        long,
        env = "WEFT_CONTROL_PLANE",
        value_name = "HOST:PORT",
        help_heading = "Control plane"
    )]
    pub(super) control_plane: String,
    /// PEM file with the roots by which the control plane is known at first contact.
    #[arg(
        long,
        env = "WEFT_TRUST_BUNDLE",
        value_name = "FILE",
        help_heading = "Control plane"
    )]
    pub(super) trust_bundle: PathBuf,
    /// File with the token that proves this pod at first contact: a projected service account token or
    /// a join token. Read anew each time it is needed.
    #[arg(
        long,
        env = "WEFT_TOKEN_FILE",
        value_name = "FILE",
        help_heading = "Control plane"
    )]
    pub(super) token_file: Option<PathBuf>,
    /// Where key, certificate, bundle and the last good configuration are kept (0700): a memory volume
    /// that outlives the container, so that a restarted proxy serves without a control plane.
    #[arg(
        long,
        env = "WEFT_STATE_DIR",
        value_name = "DIR",
        help_heading = "Control plane"
    )]
    pub(super) state_dir: Option<PathBuf>,

    /// Whether `weft-proxy init` leads the pod's traffic here. `off`: explicit listeners only.
    #[arg(long, env = "WEFT_INTERCEPTION", value_enum, default_value_t = Switch::On, value_name = "on|off", help_heading = "Traffic")]
    pub(super) interception: Switch,
    /// Without interception: listen at LISTEN for connections of the application to TO (ip:port, or
    /// host:port looked up once at start). Repeatable.
    #[arg(
        long = "outbound-listener",
        env = "WEFT_OUTBOUND_LISTENERS",
        value_delimiter = ',',
        value_name = "LISTEN=TO",
        help_heading = "Traffic"
    )]
    pub(super) outbound_listeners: Vec<Pair>,
    /// Without interception: listen at LISTEN, an address and port of the pod, for connections to the
    /// application, which itself listens at APP. Repeatable.
    #[arg(
        long = "inbound-listener",
        env = "WEFT_INBOUND_LISTENERS",
        value_delimiter = ',',
        value_name = "LISTEN=APP",
        help_heading = "Traffic"
    )]
    pub(super) inbound_listeners: Vec<Pair>,
    /// Threads that carry traffic; 0: one per CPU.
    #[arg(
        long,
        env = "WEFT_WORKERS",
        default_value_t = 1,
        value_name = "N",
        help_heading = "Traffic"
    )]
    pub(super) workers: usize,
    /// Connections open at once; more are closed on arrival.
    #[arg(
        long,
        env = "WEFT_MAX_CONNECTIONS",
        default_value_t = 16_384,
        value_name = "N",
        help_heading = "Traffic"
    )]
    pub(super) max_connections: usize,
    /// Key exchange between proxies.
    #[arg(long, env = "WEFT_KEY_EXCHANGE", value_enum, default_value_t = KeyExchange::PostQuantum, value_name = "NAME", help_heading = "Traffic")]
    pub(super) key_exchange: KeyExchange,
    /// After SIGTERM, how long open connections may take to finish, in seconds.
    #[arg(
        long,
        env = "WEFT_DRAIN_TIMEOUT",
        default_value_t = 30,
        value_name = "SECONDS",
        help_heading = "Traffic"
    )]
    pub(super) drain_timeout: u64,
    /// After so many seconds of silence the other end of a connection is asked whether it is still there; it is let go
    /// after half as much again without an answer. Whoever answers may be silent for as long as it likes.
    #[arg(
        long,
        env = "WEFT_KEEPALIVE",
        default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=7200),
        value_name = "SECONDS",
        help_heading = "Traffic"
    )]
    pub(super) keepalive: u64,
    /// User ID that the proxy must run under; it refuses to run under another, since `init` exempts
    /// this one from interception.
    #[arg(
        long,
        env = "WEFT_PROXY_UID",
        value_name = "UID",
        help_heading = "Traffic"
    )]
    pub(super) proxy_uid: Option<u32>,

    /// The application's probes and HTTP hooks, as JSON: an object whose keys are `CONTAINER/PROBE` and
    /// whose values are Kubernetes probes (`httpGet`, `tcpSocket` or `grpc`, `timeoutSeconds`; ports as
    /// numbers). Each is answered at http://POD-IP:15021/weft/probe/KEY, as in /weft/probe/web/readyz (the others are
    /// `startupz` and `livez`).
    #[arg(
        long,
        env = "WEFT_PROBES",
        default_value = "{}",
        value_name = "JSON",
        help_heading = "Observation"
    )]
    pub(super) probes: String,
    /// Where the admin interface listens over TCP; loopback only.
    #[arg(
        long,
        env = "WEFT_ADMIN",
        default_value = "127.0.0.1:15000",
        value_name = "IP:PORT",
        help_heading = "Observation"
    )]
    pub(super) admin: SocketAddr,
    /// Unix socket with the same admin interface.
    #[arg(
        long,
        env = "WEFT_ADMIN_SOCKET",
        value_name = "PATH",
        help_heading = "Observation"
    )]
    pub(super) admin_socket: Option<PathBuf>,
    /// Port of /metrics, on all addresses.
    #[arg(
        long,
        env = "WEFT_METRICS_PORT",
        default_value_t = 15020,
        value_name = "PORT",
        help_heading = "Observation"
    )]
    pub(super) metrics_port: u16,
    /// Port of /healthz/ready and the rewritten probes, on all addresses.
    #[arg(
        long,
        env = "WEFT_HEALTH_PORT",
        default_value_t = 15021,
        value_name = "PORT",
        help_heading = "Observation"
    )]
    pub(super) health_port: u16,
    /// JSON access log on standard output, where the mesh's configuration asks for one.
    #[arg(long, env = "WEFT_ACCESS_LOG", value_enum, default_value_t = Switch::On, value_name = "on|off", help_heading = "Observation")]
    pub(super) access_log: Switch,
    /// What the proxy says about itself on standard error: a level, or `target=level,...`.
    #[arg(
        long,
        env = "WEFT_LOG",
        default_value = "info",
        value_name = "FILTER",
        help_heading = "Observation"
    )]
    pub(super) log: String,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    On,
    Off,
}

/// Key exchanges to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum KeyExchange {
    /// X25519MLKEM768, or X25519 with a peer that lacks it.
    PostQuantum,
    /// X25519 alone.
    X25519,
}

/// `LISTEN=TARGET`, unresolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) listen: SocketAddr,
    pub(super) target: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (listen, target) = text
            .split_once('=')
            .ok_or("expected LISTEN=TARGET, as in 127.0.0.1:9000=10.96.0.5:80")?;
        let listen = listen
            .parse()
            .map_err(|_| format!("{listen:?} is not ip:port"))?;
        Ok(Self {
            listen,
            target: target.to_owned(),
        })
    }
}

impl Pair {
    /// Before any runtime is there: a name is looked up on one of its own.
    pub(super) fn resolve(&self) -> anyhow::Result<SocketAddr> {
        let target = &self.target;
        let looked_up = || format!("cannot look up {target:?}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .with_context(looked_up)?;
        let found = runtime.block_on(weft_proxy_xds::names::addresses(target));
        let first = found.with_context(looked_up)?.into_iter().next();
        first.with_context(|| format!("{target:?} has no address"))
    }
}
