//! The control plane's own certificate: issued by its own CA, renewed in time and when the issuer
//! changes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rand::SeedableRng;
use rand::rngs::StdRng;
use weft_certs::{Csr, Identity, PrivateKey, RotationSchedule, WorkloadIdentity};
use weft_identity::SpiffeId;

use crate::authority::Authority;

/// The wall clock may jump: the time until renewal is looked at anew this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// What is due and cannot be had yet is looked at again after this.
const SHORTEST_SLEEP: Duration = Duration::from_millis(100);

pub(crate) struct OwnIdentity {
    id: SpiffeId,
    authority: Arc<Authority>,
    identity: Arc<WorkloadIdentity>,
}

impl OwnIdentity {
    /// Issues the first certificate, if there is an authority already.
    pub fn new(id: SpiffeId, authority: Arc<Authority>) -> anyhow::Result<Self> {
        let own = Self {
            id,
            authority,
            identity: Arc::new(WorkloadIdentity::new()),
        };
        if own.is_outdated() {
            own.issue()?;
        }
        Ok(own)
    }

    /// The identity to show to clients.
    pub fn identity(&self) -> &Arc<WorkloadIdentity> {
        &self.identity
    }

    /// Renews for ever.
    pub async fn keep(&self) {
        let mut rng = StdRng::from_os_rng();
        let mut schedule = self.schedule(&mut rng);
        let mut changed = self.authority.changed();
        loop {
            let now = self.authority.clock().now();
            let delay = schedule.delay(now);
            tokio::select! {
                () = tokio::time::sleep(delay.clamp(SHORTEST_SLEEP, LONGEST_SLEEP)) => {}
                // The sender is the authority, which is held here.
                _ = changed.changed() => {}
            }
            let due = schedule.delay(self.authority.clock().now()).is_zero();
            let at_hand = self.authority.phase().is_some();
            if !(self.is_outdated() || due && at_hand) {
                continue;
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

    /// Whether there is an authority, and the certificate is none of its present issuer's.
    fn is_outdated(&self) -> bool {
        let own = self.identity.current();
        self.authority
            .in_force()
            .is_some_and(|ca| own.is_none_or(|identity| !ca.is_current(identity.chain())))
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
