//! When and how the proxy leaves.
//!
//! The control plane says `terminating` as soon as the pod is being deleted: goodbye is said, accepting
//! goes on. SIGTERM comes after the application (native sidecar): accepting ends once everyone who knew
//! this endpoint has confirmed that it is gone, or after ten seconds; what is open may finish; the rest
//! is cut.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use weft_proxy_config::{Inbound, Store};
use weft_proxy_net::{Leaving, Phase};

/// How long accepting goes on for those who have not confirmed.
const CONFIRMATION: Duration = Duration::from_secs(10);

/// How long after SIGTERM the control plane may still say that the pod is being deleted. Unless it does,
/// only the proxy goes, nobody will be told to go elsewhere, and there is nothing to wait for.
const ANNOUNCEMENT: Duration = Duration::from_secs(1);

/// Says goodbye when the control plane says that the pod is being deleted. Never returns.
pub async fn say_goodbye_when_terminating(store: Arc<Store>, leaving: Leaving) {
    until_inbound(&store, |inbound| inbound.terminating).await;
    tracing::info!("the pod is being deleted: saying goodbye, still accepting");
    leaving.advance(Phase::Draining);
    std::future::pending().await
}

/// Leaves: to be called at SIGTERM. Returns once nothing is open any more.
pub async fn leave(store: &Store, leaving: &Leaving, drain_timeout: Duration) {
    leaving.advance(Phase::Draining);
    let open = leaving.open_connections();
    tracing::info!(open, "leaving: saying goodbye");
    if store.is_connected() {
        let announced = until_inbound(store, |inbound| inbound.terminating || inbound.drained);
        if timeout(ANNOUNCEMENT, announced).await.is_ok() {
            let confirmed = until_inbound(store, |inbound| inbound.drained);
            if timeout(CONFIRMATION, confirmed).await.is_err() {
                tracing::warn!("not everyone has confirmed that this endpoint is gone");
            }
        }
    }
    leaving.advance(Phase::Closed);
    if timeout(drain_timeout, leaving.emptied()).await.is_err() {
        let open = leaving.open_connections();
        tracing::warn!(open, "connections did not finish in time and are cut");
    }
    leaving.advance(Phase::Ended);
}

async fn until_inbound(store: &Store, reached: impl Fn(&Inbound) -> bool) {
    let mut changes = store.inbound_changes();
    let seen = changes.wait_for(|inbound| inbound.as_deref().is_some_and(&reached));
    // The store outlives all who watch it.
    let _ = seen.await;
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use weft_proxy_config::{MtlsMode, StoreLimits, Writer};

    use super::*;

    fn proxy() -> (Arc<Store>, Writer, Leaving) {
        let (store, writer) = Store::new(StoreLimits::default());
        writer.set_connected(true);
        (store, writer, Leaving::new())
    }

    fn inbound(terminating: bool, drained: bool) -> Inbound {
        let mut inbound = Inbound::new("shop", "web-1", MtlsMode::Strict);
        inbound.terminating = terminating;
        inbound.drained = drained;
        inbound
    }

    #[tokio::test(start_paused = true)]
    async fn goodbye_is_said_when_the_pod_is_being_deleted() {
        let (store, writer, leaving) = proxy();
        writer.set_inbound(inbound(false, false));
        let goodbye = tokio::spawn(say_goodbye_when_terminating(store, leaving.clone()));
        tokio::task::yield_now().await;
        assert_eq!(leaving.phase(), Phase::Serving);
        writer.set_inbound(inbound(true, false));
        leaving.reached(Phase::Draining).await;
        assert_eq!(leaving.phase(), Phase::Draining);
        goodbye.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn accepting_goes_on_until_everyone_has_confirmed() {
        let (store, writer, leaving) = proxy();
        writer.set_inbound(inbound(true, false));
        let begin = Instant::now();
        let confirm = async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert_eq!(leaving.phase(), Phase::Draining);
            writer.set_inbound(inbound(true, true));
        };
        tokio::join!(leave(&store, &leaving, Duration::from_secs(30)), confirm);
        assert_eq!(begin.elapsed().as_secs(), 4);
        assert_eq!(leaving.phase(), Phase::Ended);
    }

    #[tokio::test(start_paused = true)]
    async fn without_confirmation_ten_seconds_are_enough() {
        let (store, writer, leaving) = proxy();
        writer.set_inbound(inbound(true, false));
        let begin = Instant::now();
        leave(&store, &leaving, Duration::from_secs(30)).await;
        assert_eq!(begin.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_goes_alone_waits_for_nobody() {
        let (store, writer, leaving) = proxy();
        writer.set_inbound(inbound(false, false));
        let begin = Instant::now();
        leave(&store, &leaving, Duration::from_secs(30)).await;
        assert_eq!(begin.elapsed().as_secs(), 1);
        let (store, writer, leaving) = proxy();
        writer.set_connected(false);
        let begin = Instant::now();
        leave(&store, &leaving, Duration::from_secs(30)).await;
        assert_eq!(begin.elapsed().as_secs(), 0);
    }
}
