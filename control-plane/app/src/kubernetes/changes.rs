//! Being told that an object may have changed: a watch of its metadata, as a hint and nothing more.
//!
//! Whoever is told reads the object anew, and does so now and then anyway: what a watch misses, or
//! a connection that is dead without saying so, costs time and never correctness.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::StreamExt;
use kube::Resource;
use kube::api::{Api, WatchEvent, WatchParams};
use rand::Rng;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::Outage;
use super::lease::Leadership;

/// How often to look without being told to.
const TICK: Duration = Duration::from_secs(30);
/// As [`TICK`], while something is amiss.
const IMPATIENT: Duration = Duration::from_secs(1);
/// The server ends a watch after this many seconds.
const WATCH_SECONDS: u32 = 290;
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Which objects are meant.
#[derive(Clone, Debug)]
pub(crate) enum Watched<'a> {
    Name(&'a str),
    /// With this label, whatever its value.
    Label(&'a str),
}

/// Tells `changed` of every change to these objects, for ever.
pub(crate) async fn tell<K>(api: &Api<K>, watched: &Watched<'_>, changed: &Notify)
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let params = WatchParams::default().timeout(WATCH_SECONDS);
    let params = match watched {
        Watched::Name(name) => params.fields(&format!("metadata.name={name}")),
        Watched::Label(label) => params.labels(label),
    };
    let mut pause = SHORTEST_PAUSE;
    loop {
        // From any recent state on: what is there already is told as added.
        match api.watch_metadata(&params, "0").await {
            Ok(events) => {
                let mut events = std::pin::pin!(events);
                while let Some(event) = events.next().await {
                    match event {
                        Ok(WatchEvent::Bookmark(_)) => {}
                        Ok(WatchEvent::Error(_)) | Err(_) => break,
                        Ok(_) => changed.notify_one(),
                    }
                    pause = SHORTEST_PAUSE;
                }
            }
            Err(error) => tracing::debug!(?watched, "cannot watch: {error}"),
        }
        changed.notify_one();
        let jitter = rand::rng().random_range(0.75..1.25);
        sleep(pause.mul_f64(jitter)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Something that is kept as it should be.
pub(crate) trait Reconcile {
    /// What it is, for the log.
    const WHAT: &'static str;

    /// Looks, and does what is to be done. Whether all is as it should be then.
    fn reconcile(&self) -> impl Future<Output = anyhow::Result<bool>> + Send;
}

/// Reconciles whenever `changed` says so, this replica begins or ceases to lead, and now and
/// then anyway, for ever.
pub(crate) async fn follow<R: Reconcile>(
    kept: &R,
    changed: &Notify,
    mut leadership: watch::Receiver<Leadership>,
) {
    let mut outage = Outage::default();
    loop {
        let led = leadership.borrow_and_update().leads();
        let reconciled = kept.reconcile().await;
        outage.note(R::WHAT, &reconciled);
        let settled = reconciled.unwrap_or(false);
        let pause = if settled { TICK } else { IMPATIENT };
        tokio::select! {
            () = changed.notified() => {}
            // An error means that everything is being dropped.
            _ = leadership.wait_for(|leadership| leadership.leads() != led) => {}
            () = sleep(pause) => {}
        }
    }
}
