//! Is the proxy fit to carry traffic? Facts in, the list of what is missing out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use weft_certs::WorkloadIdentity;
use weft_proxy_config::Store;
use weft_proxy_net::{Leaving, Phase, redirection_is_in_force};

/// What readiness rests on.
#[derive(Debug)]
pub struct Readiness {
    pub(crate) identity: Arc<WorkloadIdentity>,
    pub(crate) store: Arc<Store>,
    pub(crate) leaving: Leaving,
    pub(crate) listeners_up: AtomicBool,
    /// True from the start where no interception is expected.
    pub(crate) redirected: AtomicBool,
}

/// The state of readiness, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing is missing.
    pub ready: bool,
    /// What is missing.
    pub missing: Vec<&'static str>,
}

impl Readiness {
    /// As of now.
    pub fn report(&self) -> Report {
        let certificate = self
            .identity
            .current()
            .is_some_and(|own| own.chain().not_after() > SystemTime::now());
        let facts = [
            (certificate, "a valid certificate"),
            (self.store.is_mesh_known(), "the mesh's settings"),
            (self.store.inbound().is_some(), "inbound policy"),
            (self.listeners_up.load(Ordering::Acquire), "listeners"),
            (
                self.redirected.load(Ordering::Acquire),
                "redirection of the pod's traffic (did `weft-proxy init` run in this network namespace?)",
            ),
            (
                self.leaving.phase() < Phase::Closed,
                "acceptance of new connections: the proxy is leaving",
            ),
        ];
        let missing: Vec<_> = facts
            .into_iter()
            .filter_map(|(holds, what)| (!holds).then_some(what))
            .collect();
        Report {
            ready: missing.is_empty(),
            missing,
        }
    }

    /// Tests redirection until it is in force. The workers must be accepting by then.
    pub async fn test_redirection(&self) {
        let mut told = false;
        while let Err(error) = redirection_is_in_force().await {
            if !told {
                tracing::warn!(%error, "the pod's traffic is not led here yet: not ready");
                told = true;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.redirected.store(true, Ordering::Release);
        tracing::info!("the pod's traffic is led here");
    }
}

/// `0.0.0.0` and `[::]` at a port.
pub fn everywhere(port: u16) -> [SocketAddr; 2] {
    [
        ([0, 0, 0, 0], port).into(),
        (std::net::Ipv6Addr::UNSPECIFIED, port).into(),
    ]
}
