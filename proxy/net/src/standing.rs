//! The hops that stand: how long each may live, and which of them still rest on a trusted root.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use rand::Rng;
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;
use weft_certs::{Leaf, MeshTls, PeerRole};

use crate::drain::Life;

/// The longest a hop takes new requests, whatever its peer's certificate says.
const LONGEST: Duration = Duration::from_secs(3600);

/// In this time a request that is under way ends, on a busy machine too.
const ENOUGH: Duration = Duration::from_secs(15);

/// How often a worker looks whether trust has changed.
const TRUST_CHECK: Duration = Duration::from_secs(1);

/// One worker's hops.
#[derive(Debug)]
pub(crate) struct Standing {
    tls: MeshTls,
    hops: RefCell<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    life: Weak<Life>,
    chain: Box<[CertificateDer<'static>]>,
    role: PeerRole,
}

impl Standing {
    pub(crate) fn new(tls: &MeshTls) -> Self {
        Self {
            tls: tls.clone(),
            hops: RefCell::default(),
        }
    }

    /// Begins the life of a hop whose peer has just proven `leaf`.
    pub(crate) fn enter(
        &self,
        leaf: &Leaf,
        chain: &[CertificateDer<'_>],
        role: PeerRole,
    ) -> Arc<Life> {
        let left = leaf
            .not_after
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        let life = Arc::new(life(Instant::now(), left, &mut rand::rng()));
        let mut hops = self.hops.borrow_mut();
        if hops.len() == hops.capacity() {
            hops.retain(|hop| hop.life.strong_count() > 0);
        }
        hops.push(Entry {
            life: Arc::downgrade(&life),
            chain: chain.iter().map(|c| c.clone().into_owned()).collect(),
            role,
        });
        life
    }

    /// Ends what rests on a root that is no longer trusted.
    pub(crate) fn recheck(&self) {
        self.hops.borrow_mut().retain(|hop| {
            let Some(life) = hop.life.upgrade() else {
                return false;
            };
            if let Err(error) = self.tls.recheck(&hop.chain, hop.role) {
                tracing::info!(%error, "a hop's peer is no longer trusted: it drains");
                life.revoke();
                return false;
            }
            true
        });
    }

    /// Rechecks on every change of trust. Never returns.
    pub(crate) async fn watch(&self) {
        let mut seen = self.tls.trust().current().generation();
        loop {
            tokio::time::sleep(TRUST_CHECK).await;
            let now = self.tls.trust().current().generation();
            if now != seen {
                seen = now;
                self.recheck();
            }
        }
    }
}

/// Goodbye after an hour or nine tenths of what is left of the certificate, up to a tenth earlier so
/// that hops opened together do not end together; the end comes with the certificate. Where that
/// ends soon, what is under way gets half of the time that is left, until it is [`ENOUGH`].
fn life(now: Instant, left: Duration, rng: &mut impl Rng) -> Life {
    let under_way = ENOUGH.min(left / 2).max(left / 10);
    let retire = LONGEST.min(left - under_way);
    let retire = retire.mul_f64(rng.random_range(0.9..1.0));
    Life::new(now + retire, now + left)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hop_says_goodbye_before_its_certificate_or_an_hour_ends() {
        let mut rng = SmallRng::seed_from_u64(1);
        for (left, earliest, latest) in [
            (86_400, 3240, 3600),
            (1000, 810, 900),
            (60, 40, 45),
            (20, 9, 10),
            (0, 0, 0),
        ] {
            let begin = Instant::now();
            let life = life(begin, Duration::from_secs(left), &mut rng);
            life.over().await;
            let goodbye = begin.elapsed().as_secs();
            assert!((earliest..=latest).contains(&goodbye), "{left}: {goodbye}");
            life.ended().await;
            assert_eq!(begin.elapsed().as_secs().max(goodbye), left.max(goodbye));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_revoked_hop_says_goodbye_at_once_and_ends_after_a_grace() {
        let life = Life::new(
            Instant::now() + LONGEST,
            Instant::now() + Duration::from_secs(86_400),
        );
        let begin = Instant::now();
        let revoke = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            life.revoke();
        };
        tokio::join!(revoke, life.over());
        assert_eq!(begin.elapsed().as_secs(), 5);
        life.ended().await;
        assert_eq!(begin.elapsed().as_secs(), 35);
    }
}
