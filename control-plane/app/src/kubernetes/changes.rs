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
use tokio::sync::Notify;
use tokio::time::sleep;

/// The server ends a watch after this many seconds.
const WATCH_SECONDS: u32 = 290;
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Tells `changed` of every change to objects of this name, for ever.
pub(crate) async fn tell<K>(api: &Api<K>, name: &str, changed: &Notify)
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let params = WatchParams::default()
        .fields(&format!("metadata.name={name}"))
        .timeout(WATCH_SECONDS);
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
            Err(error) => tracing::debug!(name, "cannot watch: {error}"),
        }
        changed.notify_one();
        let jitter = rand::rng().random_range(0.75..1.25);
        sleep(pause.mul_f64(jitter)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
