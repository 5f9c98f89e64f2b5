//! The certificate the webhook serves with: issued here by the webhook's own CA, replaced in time, and
//! at once when another CA signs. Connections that are open keep what they have.

use std::sync::Arc;
use std::time::Duration;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use weft_certs::{Clock, RotationSchedule, ServingRotation};

/// The clock is looked at this often: it may be set, or the machine may sleep.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// After the certificate could not be made.
const PAUSE: Duration = Duration::from_secs(10);

/// What is served now; none: handshakes fail.
pub type Serving = watch::Receiver<Option<Arc<CertifiedKey>>>;

/// rustls asks for each handshake.
#[derive(Debug)]
pub(super) struct Current(pub(super) Serving);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().clone()
    }
}

/// The DNS names that the API server and people call it by.
pub fn dns_names(service: &str, namespace: &str) -> Vec<String> {
    let short = format!("{service}.{namespace}.svc");
    vec![format!("{short}.cluster.local"), short]
}

/// Keeps `serving` current from the first CA on, until nobody sends or reads any more.
pub async fn keep_current(
    mut rotation: watch::Receiver<Option<Arc<ServingRotation>>>,
    names: Vec<String>,
    clock: Arc<dyn Clock>,
    serving: watch::Sender<Option<Arc<CertifiedKey>>>,
) {
    loop {
        let signing = match rotation.wait_for(Option::is_some).await {
            Ok(found) => found.clone(),
            Err(_) => return,
        };
        let Some(signing) = signing else { continue };
        let issued = signing.issue(&names, clock.now());
        let schedule = match issued {
            Ok(certificate) => {
                serving.send_replace(Some(certificate.key));
                let (begin, end) = (certificate.not_before, certificate.not_after);
                Some(RotationSchedule::new(begin, end, &mut rand::rng()))
            }
            Err(error) => {
                tracing::error!(%error, "no new serving certificate for the webhook");
                None
            }
        };
        let renew = async {
            match &schedule {
                None => tokio::time::sleep(PAUSE).await,
                Some(schedule) => loop {
                    let delay = schedule.delay(clock.now());
                    if delay.is_zero() {
                        break;
                    }
                    tokio::time::sleep(delay.min(LONGEST_WAIT)).await;
                },
            }
        };
        let another_signs = async {
            while rotation.changed().await.is_ok() {
                let now = rotation.borrow();
                if now.as_ref().is_some_and(|now| !now.signs_as(&signing)) {
                    return true;
                }
            }
            false
        };
        tokio::select! {
            () = renew => {}
            changed = another_signs => if !changed { return },
            () = serving.closed() => return,
        }
    }
}
