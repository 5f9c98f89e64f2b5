//! The control plane's own certificate: issued by its own CA, renewed in time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::Notify;
use weft_certs::{Csr, Identity, PrivateKey, RotationSchedule, WorkloadIdentity};
use weft_identity::SpiffeId;

use crate::authority::Authority;

/// The wall clock may jump: the time until renewal is looked at anew this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

pub(crate) struct OwnIdentity {
    id: SpiffeId,
    authority: Arc<Authority>,
    identity: Arc<WorkloadIdentity>,
    /// Told when the issuer has changed.
    renew: Arc<Notify>,
}

impl OwnIdentity {
    /// Issues the first certificate.
    pub fn new(id: SpiffeId, authority: Arc<Authority>) -> anyhow::Result<Self> {
        let own = Self {
            id,
            authority,
            identity: Arc::new(WorkloadIdentity::new()),
            renew: Arc::new(Notify::new()),
        };
        own.issue()?;
        Ok(own)
    }

    /// The identity to show to clients.
    pub fn identity(&self) -> &Arc<WorkloadIdentity> {
        &self.identity
    }

    /// Wakes [`OwnIdentity::keep`] for a renewal at once.
    pub fn renewal(&self) -> Arc<Notify> {
        Arc::clone(&self.renew)
    }

    /// Renews for ever.
    pub async fn keep(&self) {
        let mut rng = StdRng::from_os_rng();
        let mut schedule = self.schedule(&mut rng);
        loop {
            let now = self.authority.clock().now();
            let delay = schedule.delay(now);
            tokio::select! {
                () = tokio::time::sleep(delay.min(LONGEST_SLEEP)) => {
                    if schedule.delay(self.authority.clock().now()) > Duration::ZERO {
                        continue;
                    }
                }
                () = self.renew.notified() => {}
            }
            match self.issue() {
                Ok(()) => schedule = self.schedule(&mut rng),
                Err(error) => {
                    let again = schedule.failed(self.authority.clock().now(), &mut rng);
                    tracing::error!(
                        ?again,
                        "cannot renew the control plane's certificate: {error:#}"
                    );
                }
            }
        }
    }

    fn schedule(&self, rng: &mut StdRng) -> RotationSchedule {
        let now = self.authority.clock().now();
        let (from, to) = self.identity.current().map_or((now, now), |identity| {
            (identity.chain().not_before(), identity.chain().not_after())
        });
        RotationSchedule::new(from, to, rng)
    }

    fn issue(&self) -> anyhow::Result<()> {
        let key = PrivateKey::generate().context("no key for the control plane")?;
        let request = key.csr(&self.id)?;
        let verified = Csr::verify(&request, &self.id)?;
        let chain = self.authority.issue(&verified)?;
        tracing::info!(serial = %chain.serial(), "the control plane has a new certificate");
        self.identity.set(Identity::new(key, chain)?);
        Ok(())
    }
}
