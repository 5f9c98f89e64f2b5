//! What is the control plane's own in a cluster.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use weft_inject::InjectSettings;

use super::duration;

/// What the control plane keeps in a cluster, and how.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "In a cluster (--kubernetes)")]
pub struct ClusterSettings {
    /// The namespace of the control plane and of what it keeps: Secret `weft-ca`, Lease
    /// `weft-leader`, ConfigMap `weft-trust`, Secret `weft-webhook`.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "weft-system",
        env = "WEFT_NAMESPACE"
    )]
    pub namespace: String,

    /// The name of the pod that this replica is.
    #[arg(long, value_name = "NAME", env = "WEFT_POD")]
    pub pod: Option<String>,

    /// How long the replica that writes may be silent before another one takes over.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = lease_duration, env = "WEFT_LEASE_DURATION")]
    pub lease_duration: Duration,

    /// A Secret of the control plane's namespace with an intermediate CA to sign with, in the shape
    /// of cert-manager's: `tls.crt`, `tls.key` and `ca.crt`. Whenever it changes a rotation to it
    /// begins. Without it the control plane makes a root of its own.
    #[arg(long, value_name = "SECRET", env = "WEFT_CA_SECRET")]
    pub ca_secret: Option<String>,

    /// The network puts other addresses in place of those of pods: do not check that a pod connects
    /// from its own. A pod can then pass for another of the same namespace and service account,
    /// with the identity that both have; for none of another account.
    #[arg(long, env = "WEFT_NO_ADDRESS_CHECK")]
    pub no_address_check: bool,

    /// Address of the admission webhook (HTTPS), which the API server calls by the Service
    /// `weft-control-plane`.
    #[arg(
        long,
        value_name = "IP:PORT",
        default_value = "0.0.0.0:15017",
        env = "WEFT_WEBHOOK"
    )]
    pub webhook: SocketAddr,

    /// What the webhook puts into pods, as JSON; `weft install` writes it. Without it, what an
    /// installation without further settings has.
    #[arg(long, value_name = "JSON", value_parser = inject_settings, env = "WEFT_INJECT")]
    pub inject: Option<InjectSettings>,
}

fn inject_settings(text: &str) -> Result<InjectSettings, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// A Lease counts in seconds, and a term must have room for its margins.
fn lease_duration(text: &str) -> Result<Duration, String> {
    let lease = duration(text)?;
    if lease < Duration::from_secs(3) || lease.subsec_nanos() != 0 {
        return Err(format!("{text} is not a number of seconds from 3s on"));
    }
    Ok(lease)
}
