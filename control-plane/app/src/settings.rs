//! The command line and environment, and what is made of them.

mod cluster;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use weft_identity::TrustDomain;
use weft_inject::InjectSettings;

pub use cluster::ClusterSettings;

/// Streams and certificates.
const GRPC_PORT: u16 = 15010;
/// Health and metrics in a cluster.
const HEALTH_PORT: u16 = 15014;

/// The control plane of the Weft service mesh.
#[derive(Debug, Parser)]
#[command(name = "weft-control-plane", version)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve: read the sources, issue certificates, stream configuration to proxies.
    ///
    /// Runs until SIGTERM or SIGINT. Logs go to stderr.
    Run(Box<Run>),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Where the objects of the mesh are read.
    #[command(flatten)]
    pub sources: Sources,

    /// Where the certificate authority keeps its key and state (mode 0600, directory 0700), and
    /// where `trust-bundle.pem` is written for proxies to start with. Losing it means a new mesh
    /// identity for everyone: keep it. One control plane at a time uses it.
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "kubernetes",
        conflicts_with = "kubernetes",
        env = "WEFT_STATE"
    )]
    pub state: Option<PathBuf>,

    /// Where join records lie: `<sha256 of the token>.json` with `namespace`, `pod` and `expires`
    /// (Unix seconds) lets one pod fetch its first certificate, with the first key that it comes with.
    /// Without it, only renewals are served.
    #[arg(
        long,
        value_name = "DIR",
        env = "WEFT_JOIN_DIR",
        conflicts_with = "kubernetes"
    )]
    pub join_dir: Option<PathBuf>,

    /// Address of the gRPC listener (TLS 1.3; stream and certificates). Repeat it for several.
    #[arg(
        long = "listen",
        value_name = "IP:PORT",
        default_value = "0.0.0.0:15010",
        env = "WEFT_LISTEN"
    )]
    pub listen: Vec<SocketAddr>,

    /// Address of the admin interface (HTTP, JSON), `unix:PATH` or a loopback `IP:PORT`. Repeat it
    /// for several. Who reaches it may rotate the root.
    #[arg(long = "admin", value_name = "ADDRESS", env = "WEFT_ADMIN")]
    pub admin: Vec<AdminAddress>,

    /// The trust domain of all identities.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "cluster.local",
        env = "WEFT_TRUST_DOMAIN"
    )]
    pub trust_domain: TrustDomain,

    /// Addresses of pods and Services, in CIDR form, where no MeshConfig names them: a proxy never
    /// passes traffic for an unknown one of these through unencrypted.
    #[arg(long = "mesh-cidr", value_name = "CIDR", env = "WEFT_MESH_CIDR")]
    pub mesh_cidrs: Vec<IpNet>,

    /// How long a workload certificate lives, such as `24h` or `90s`. Renewed at about two thirds
    /// of it. Also the longest grace of each phase of a root rotation.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration, env = "WEFT_LEAF_LIFETIME")]
    pub leaf_lifetime: Duration,

    /// How long a root lives that the control plane makes itself.
    #[arg(long, value_name = "DURATION", default_value = "87600h", value_parser = duration, env = "WEFT_ROOT_LIFETIME")]
    pub root_lifetime: Duration,

    /// How long a proxy's stream may last, at most; between half of it and all. Its proxy opens
    /// another one at once, to whichever replica: so they share the proxies again after one was away.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration, env = "WEFT_LONGEST_STREAM")]
    pub longest_stream: Duration,

    /// Address of health and metrics (HTTP: `/healthz/live`, `/healthz/ready`, `/metrics`), for
    /// others to reach: nothing there changes or reveals configuration. Repeat it for several. In a
    /// cluster 0.0.0.0:15014 where none is named.
    #[arg(long = "health", value_name = "IP:PORT", env = "WEFT_HEALTH")]
    pub health: Vec<SocketAddr>,

    /// What is its own in a cluster.
    #[command(flatten)]
    pub cluster: ClusterSettings,

    /// What is logged, as `level` or `target=level` separated by commas. (The client of the API
    /// server would tell of each attempt during an outage; that there is one is told anyway.)
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info,kube_client=off",
        env = "WEFT_LOG"
    )]
    pub log: String,

    /// Log lines as JSON.
    #[arg(long, env = "WEFT_LOG_JSON")]
    pub log_json: bool,
}

impl Run {
    /// Where health and metrics are served.
    #[must_use]
    pub fn health(&self) -> Vec<SocketAddr> {
        match &self.health[..] {
            [] if self.sources.kubernetes => vec![SocketAddr::from(([0, 0, 0, 0], HEALTH_PORT))],
            given => given.to_vec(),
        }
    }

    /// What is put into pods.
    #[must_use]
    pub fn injection(&self) -> InjectSettings {
        let namespace = &self.cluster.namespace;
        self.cluster.inject.clone().unwrap_or(InjectSettings {
            control_plane: format!("weft-control-plane.{namespace}.svc:{GRPC_PORT}"),
            trust_domain: self.trust_domain.as_str().to_owned(),
            ..InjectSettings::default()
        })
    }
}

/// Where the objects of the mesh are read: folders, or a cluster.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sources, one of the two")]
pub struct Sources {
    /// A folder (with its subfolders) or file of YAML; repeat it for several, which make up one
    /// world. Changes are followed while it runs.
    #[arg(
        long = "source",
        value_name = "PATH",
        required_unless_present = "kubernetes",
        conflicts_with = "kubernetes",
        env = "WEFT_SOURCE"
    )]
    pub folders: Vec<PathBuf>,

    /// Read from a Kubernetes API server, found by KUBECONFIG or else as from within a pod.
    #[arg(long, env = "WEFT_KUBERNETES")]
    pub kubernetes: bool,

    /// How long one watch of the API server lasts before it is begun anew where it ended, at most
    /// 290s. The shorter, the sooner a connection that died without a word is noticed.
    #[arg(long, value_name = "DURATION", default_value = "290s", value_parser = watch_lifetime, env = "WEFT_WATCH_LIFETIME")]
    pub watch_lifetime: Duration,
}

/// The longest that API servers keep for sure is five minutes.
fn watch_lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = duration(text)?;
    if !(Duration::from_secs(1)..=Duration::from_secs(290)).contains(&lifetime) {
        return Err(format!("{text} is not between 1s and 290s"));
    }
    Ok(lifetime)
}

/// Where the admin interface listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A socket file, readable by its owner only.
    Unix(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let address: SocketAddr = text
            .parse()
            .map_err(|_| format!("{text:?} is neither unix:PATH nor IP:PORT"))?;
        if !address.ip().is_loopback() {
            return Err(format!(
                "{address} is not a loopback address: the admin interface has no access control"
            ));
        }
        Ok(Self::Tcp(address))
    }
}

/// `h`, `m`, `s` and `ms` parts, as in the Gateway API (GEP-2257); not zero.
fn duration(text: &str) -> Result<Duration, String> {
    let fault = || format!("{text:?} is not a duration such as 90s, 10m or 24h");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let millis: u64 = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return Err(fault()),
        };
        let number: u64 = number.parse().map_err(|_| fault())?;
        let part = number.checked_mul(millis).ok_or_else(fault)?;
        total += Duration::from_millis(part);
        rest = after;
    }
    if total.is_zero() {
        return Err(fault());
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_defaults_hold() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
        let line = [
            "weft-control-plane",
            "run",
            "--source",
            "a",
            "--source",
            "b",
            "--state",
            "s",
        ];
        let Command::Run(run) = CommandLine::parse_from(line).command;
        assert_eq!(
            run.sources.folders,
            [PathBuf::from("a"), PathBuf::from("b")]
        );
        assert_eq!(run.leaf_lifetime, Duration::from_secs(24 * 3600));
        assert_eq!(run.trust_domain.as_str(), "cluster.local");
    }

    #[test]
    fn a_mesh_is_read_from_folders_or_from_a_cluster() {
        let parse = |arguments: &[&str]| {
            CommandLine::try_parse_from(["weft-control-plane", "run"].iter().chain(arguments))
        };
        let Command::Run(run) = parse(&["--kubernetes"]).unwrap().command;
        assert!(run.sources.kubernetes && run.sources.folders.is_empty());
        assert_eq!(run.sources.watch_lifetime, Duration::from_secs(290));
        for refused in [
            &[][..],
            &["--kubernetes", "--source", "a"],
            &["--kubernetes", "--join-dir", "a"],
            &["--kubernetes", "--watch-lifetime", "5m"],
        ] {
            assert!(parse(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_cluster_keeps_what_a_folder_would() {
        let parse = |arguments: &[&str]| {
            CommandLine::try_parse_from(["weft-control-plane", "run"].iter().chain(arguments))
        };
        let Command::Run(run) = parse(&["--kubernetes"]).unwrap().command;
        assert_eq!(run.health(), ["0.0.0.0:15014".parse().unwrap()]);
        assert_eq!(run.cluster.namespace, "weft-system");
        assert_eq!(run.injection(), InjectSettings::default());
        let inject = InjectSettings {
            log: "debug".to_owned(),
            ..InjectSettings::default()
        };
        let json = serde_json::to_string(&inject).unwrap();
        let Command::Run(given) = parse(&["--kubernetes", "--inject", &json]).unwrap().command;
        assert_eq!(given.injection(), inject);
        for refused in [
            &[][..],
            &["--kubernetes", "--state", "s"],
            &["--kubernetes", "--join-dir", "j"],
            &["--kubernetes", "--inject", "{}"],
            &["--kubernetes", "--lease-duration", "2s"],
            &["--kubernetes", "--lease-duration", "3500ms"],
        ] {
            assert!(parse(refused).is_err(), "{refused:?}");
        }
        let Command::Run(run) = parse(&["--source", "a", "--state", "s"]).unwrap().command;
        assert!(run.health().is_empty());
    }

    #[test]
    fn an_admin_address_is_a_socket_file_or_loopback() {
        assert_eq!("unix:/a".parse(), Ok(AdminAddress::Unix("/a".into())));
        assert!("127.0.0.1:15011".parse::<AdminAddress>().is_ok());
        assert!("0.0.0.0:15011".parse::<AdminAddress>().is_err());
        assert!("/a".parse::<AdminAddress>().is_err());
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        for text in ["", "0s", "5", "1d", "s", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
