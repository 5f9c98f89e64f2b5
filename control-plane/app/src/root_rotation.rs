//! Drives a root rotation: looks at what the proxies have confirmed, and lets the CA go on.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use weft_certs::{Confirmed, RotationPhase};
use weft_identity::PodRef;
use weft_xds::Server;

use crate::authority::Authority;
use crate::kubernetes::heard::replica::Heard;
use crate::mesh::Mesh;

/// How often to look whether a deadline has passed.
const TICK: Duration = Duration::from_secs(1);

pub(crate) struct RootRotation {
    pub authority: Arc<Authority>,
    pub mesh: Arc<Mesh>,
    pub server: Server,
    /// What other replicas heard, where there may be some.
    pub heard: Option<Arc<Heard>>,
}

impl RootRotation {
    /// Drives for ever.
    pub async fn drive(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // A tick bounds how often this looks at all proxies; phases last many ticks.
            ticks.tick().await;
            let stable = matches!(self.authority.phase(), None | Some(RotationPhase::Stable));
            if !stable && self.authority.may_change() {
                self.advance().await;
            }
        }
    }

    async fn advance(&self) {
        match self
            .authority
            .advance_rotation(self.confirmed(), &self.server)
            .await
        {
            Ok(None) => {}
            Ok(Some(phase)) => tracing::info!("root rotation: {phase}"),
            Err(error) => tracing::error!("root rotation cannot go on: {error}"),
        }
    }

    /// What every pod that runs a proxy has confirmed, whether it is connected or not: one that is
    /// away may come back with what it had.
    fn confirmed(&self) -> Confirmed {
        let step = self.authority.rotation_step();
        let others = self.heard.as_ref().map(|heard| heard.others());
        let elsewhere = |pod: &PodRef| match (&step, &others) {
            (Some(step), Some(others)) => others.confirm(&step.name, pod),
            _ => false,
        };
        let pods = self.mesh.meshed_pods();
        match self.authority.phase() {
            None | Some(RotationPhase::Stable) => Confirmed::Nothing,
            Some(RotationPhase::Announced { .. }) => {
                let hash = self.authority.bundle_hash();
                let holders = self.server.trust_holders();
                if pods
                    .iter()
                    .all(|pod| holders.contains(pod) || elsewhere(pod))
                {
                    Confirmed::Bundle(hash)
                } else {
                    Confirmed::Nothing
                }
            }
            Some(RotationPhase::Switched { .. }) => {
                if pods
                    .iter()
                    .all(|pod| self.authority.has_renewed(pod) || elsewhere(pod))
                {
                    Confirmed::Leaves
                } else {
                    Confirmed::Nothing
                }
            }
        }
    }
}
