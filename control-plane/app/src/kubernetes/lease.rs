//! Leadership among the replicas, by a Lease: who writes (CA, trust anchors, status, webhook).
//!
//! The holder renews the Lease; the others take it once it has not changed for its whole duration,
//! as measured by their own monotonic clocks from when they first saw it. No two machines' clocks
//! are ever compared: `renewTime` is for people. Every write carries the resource version that was
//! read, so that of several that try at once one succeeds.
//!
//! A holder counts its term from before the request that renewed it, and ends it a third of the
//! duration before anyone may take over: a write that was begun in time is done, or given up
//! ([`Leadership::deadline`]), before there can be another leader.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use rand::Rng;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::{FIELD_MANAGER, Outage, labels};

/// The Lease of the control plane's writers.
pub(crate) const LEASE: &str = "weft-leader";

/// Who leads, as far as this replica knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leadership {
    /// The pod that held the Lease when it was last seen.
    pub leader: Option<Arc<str>>,
    term: Option<Term>,
}

#[derive(Clone, Copy, Debug)]
struct Term {
    until: Instant,
    margin: Duration,
}

impl Leadership {
    /// Whether this replica leads at this moment.
    pub fn leads(&self) -> bool {
        self.deadline().is_some()
    }

    /// If this replica leads: when a write that begins now must be given up at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let term = self.term?;
        (Instant::now() < term.until).then(|| term.until + term.margin / 2)
    }
}

/// What the Lease says, and since when it has.
#[derive(Clone, Debug, PartialEq)]
struct Sight {
    spec: LeaseSpec,
    /// When this content was first seen here.
    since: Instant,
}

/// What to do about the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// There is none.
    Create,
    /// It is held by this replica.
    Renew,
    /// Nobody holds it, or its holder has been silent for too long.
    Take,
    /// Somebody else holds it.
    Follow,
}

/// The rule. `own` is this replica's duration, which counts where the Lease names a shorter one.
fn step(seen: Option<&Sight>, me: &str, own: Duration, now: Instant) -> Step {
    let Some(seen) = seen else {
        return Step::Create;
    };
    let holder = seen.spec.holder_identity.as_deref().unwrap_or_default();
    let seconds = seen.spec.lease_duration_seconds.unwrap_or(0);
    let duration = Duration::from_secs(seconds.try_into().unwrap_or(0)).max(own);
    match holder {
        holder if holder == me => Step::Renew,
        "" => Step::Take,
        _ if now.duration_since(seen.since) >= duration => Step::Take,
        _ => Step::Follow,
    }
}

/// What was seen before, and what is there now.
fn look(before: Option<Sight>, spec: Option<LeaseSpec>, now: Instant) -> Option<Sight> {
    let spec = spec?;
    match before {
        Some(before) if before.spec == spec => Some(before),
        _ => Some(Sight { spec, since: now }),
    }
}

/// This replica's part in the Lease.
pub(crate) struct LeaderLease {
    leases: Api<Lease>,
    /// Pod, and what tells this process from a former one of the same pod.
    me: String,
    duration: Duration,
    leadership: watch::Sender<Leadership>,
}

impl LeaderLease {
    /// `duration` is how long a leader may be silent.
    pub fn new(client: Client, namespace: &str, pod: &str, duration: Duration) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            me: format!("{pod}_{:08x}", rand::random::<u32>()),
            duration,
            leadership: watch::Sender::default(),
        }
    }

    /// Who leads; changes with every renewal, too.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// Takes part for ever.
    pub async fn keep(&self) {
        let mut seen = None;
        let mut outage = Outage::default();
        loop {
            let began = Instant::now();
            // There is time for a second try within a term.
            let round = timeout(self.duration / 3, self.round(&mut seen)).await;
            let round = round.unwrap_or_else(|_| Err(anyhow!("the API server does not answer")));
            outage.note("Lease", &round);
            if let Ok(held) = round {
                self.learn(seen.as_ref(), held.then_some(began));
            }
            let pause = self.duration.mul_f64(rand::rng().random_range(0.11..0.15));
            self.pause(began + pause).await;
        }
    }

    /// Sleeps; a term that ends meanwhile is told to those who wait for changes.
    async fn pause(&self, until: Instant) {
        let end = self.leadership.borrow().term.map(|term| term.until);
        if let Some(end) = end.filter(|end| *end <= until) {
            sleep_until(end).await;
            tracing::warn!("this replica leads no longer: its Lease could not be renewed");
            self.leadership
                .send_modify(|leadership| leadership.term = None);
        }
        sleep_until(until).await;
    }

    /// How long one renewal counts.
    fn term(&self) -> Duration {
        self.duration * 2 / 3
    }

    /// Reads the Lease and does what is to be done. Whether this replica holds it afterwards.
    async fn round(&self, seen: &mut Option<Sight>) -> anyhow::Result<bool> {
        let lease = self.leases.get_opt(LEASE).await.context("cannot be read")?;
        let spec = lease
            .as_ref()
            .map(|lease| lease.spec.clone().unwrap_or_default());
        *seen = look(seen.take(), spec, Instant::now());
        let step = step(seen.as_ref(), &self.me, self.duration, Instant::now());
        let written = match (step, lease) {
            (Step::Follow, _) => return Ok(false),
            (Step::Renew, Some(lease)) => self.replace(lease, false).await,
            (Step::Take, Some(lease)) => self.replace(lease, true).await,
            (_, None) | (Step::Create, _) => self.create().await,
        };
        match written {
            Ok(lease) => {
                *seen = look(seen.take(), lease.spec, Instant::now());
                Ok(true)
            }
            // Somebody was faster; the next round tells who.
            Err(Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(false)
            }
            Err(error) => Err(error).context("cannot be written"),
        }
    }

    async fn create(&self) -> Result<Lease, Error> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(LEASE.into()),
                labels: Some(labels()),
                ..ObjectMeta::default()
            },
            spec: Some(self.spec(0, None)),
        };
        self.leases.create(&post(), &lease).await
    }

    async fn replace(&self, mut lease: Lease, take: bool) -> Result<Lease, Error> {
        let before = lease.spec.unwrap_or_default();
        let transitions = before.lease_transitions.unwrap_or(0);
        lease.spec = Some(if take {
            self.spec(transitions.saturating_add(1), None)
        } else {
            self.spec(transitions, before.acquire_time)
        });
        self.leases.replace(LEASE, &post(), &lease).await
    }

    fn spec(&self, transitions: i32, acquired: Option<MicroTime>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
            lease_transitions: Some(transitions),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }

    fn learn(&self, seen: Option<&Sight>, held_since: Option<Instant>) {
        let holder = seen.and_then(|seen| seen.spec.holder_identity.as_deref());
        let next = Leadership {
            leader: holder.filter(|holder| !holder.is_empty()).map(pod_of),
            term: held_since.map(|since| Term {
                until: since + self.term(),
                margin: self.duration - self.term(),
            }),
        };
        let (led, leads) = (self.leadership.borrow().leads(), next.leads());
        match (led, leads) {
            (false, true) => tracing::info!("this replica leads"),
            (true, false) => tracing::warn!(leader = ?next.leader, "this replica leads no longer"),
            _ => {}
        }
        self.leadership.send_if_modified(|before| {
            let changed = leads || led || before.leader != next.leader;
            *before = next;
            changed
        });
    }

    /// Gives the Lease away, so that another need not wait. Nothing may be written afterwards.
    pub async fn release(&self) -> anyhow::Result<()> {
        let led = self.leadership.send_replace(Leadership::default()).leads();
        if !led {
            return Ok(());
        }
        let mut lease = self.leases.get(LEASE).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.me) {
            return Ok(());
        }
        spec.holder_identity = None;
        self.leases.replace(LEASE, &post(), &lease).await?;
        Ok(())
    }

    /// Whether the Lease has the annotation.
    pub async fn has_mark(&self, annotation: &str) -> Result<bool, Error> {
        let lease = self.leases.get_opt(LEASE).await?;
        let annotations = lease.and_then(|lease| lease.metadata.annotations);
        Ok(annotations.is_some_and(|all| all.contains_key(annotation)))
    }

    /// Puts the annotation on the Lease, whoever holds it.
    pub async fn mark(&self, annotation: &str, value: &str) -> Result<(), Error> {
        let patch = json!({"metadata": {"annotations": {annotation: value}}});
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        self.leases
            .patch(LEASE, &params, &Patch::Merge(patch))
            .await?;
        Ok(())
    }
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    }
}

fn pod_of(holder: &str) -> Arc<str> {
    holder
        .rsplit_once('_')
        .map_or(holder, |(pod, _)| pod)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const DURATION: Duration = Duration::from_secs(15);

    fn held(by: &str, renewed: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(by.into()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(renewed.parse().unwrap())),
            ..LeaseSpec::default()
        }
    }

    fn seen(spec: LeaseSpec) -> Option<Sight> {
        look(None, Some(spec), Instant::now())
    }

    fn decided(seen: Option<&Sight>) -> Step {
        step(seen, "b_1", DURATION, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_free_is_taken_and_what_is_ones_own_renewed() {
        assert_eq!(decided(None), Step::Create);
        let free = seen(held("", "2026-01-01T00:00:00Z"));
        assert_eq!(decided(free.as_ref()), Step::Take);
        assert_eq!(decided(seen(LeaseSpec::default()).as_ref()), Step::Take);
        let own = seen(held("b_1", "2026-01-01T00:00:00Z"));
        assert_eq!(decided(own.as_ref()), Step::Renew);
        // A former process of the same pod is somebody else.
        let former = seen(held("b_0", "2026-01-01T00:00:00Z"));
        assert_eq!(decided(former.as_ref()), Step::Follow);
    }

    #[tokio::test(start_paused = true)]
    async fn only_silence_as_measured_here_lets_another_take_over() {
        // However wrong the holder's clock is.
        for renewed in ["1990-01-01T00:00:00Z", "2090-01-01T00:00:00Z"] {
            let mut sight = seen(held("a_1", renewed));
            advance(DURATION - Duration::from_millis(1)).await;
            sight = look(sight, Some(held("a_1", renewed)), Instant::now());
            assert_eq!(decided(sight.as_ref()), Step::Follow, "{renewed}");
            advance(Duration::from_millis(1)).await;
            assert_eq!(decided(sight.as_ref()), Step::Take, "{renewed}");
        }
        let before = seen(held("a_1", "2026-01-01T00:00:00Z"));
        advance(DURATION).await;
        let renewed = look(
            before,
            Some(held("a_1", "2026-01-01T00:00:02Z")),
            Instant::now(),
        );
        assert_eq!(decided(renewed.as_ref()), Step::Follow);
        let gone = look(renewed, None, Instant::now());
        assert_eq!(decided(gone.as_ref()), Step::Create);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longer_of_two_durations_counts() {
        let mut spec = held("a_1", "2026-01-01T00:00:00Z");
        spec.lease_duration_seconds = Some(60);
        let sight = seen(spec);
        advance(DURATION * 2).await;
        assert_eq!(decided(sight.as_ref()), Step::Follow);
        advance(DURATION * 2).await;
        assert_eq!(decided(sight.as_ref()), Step::Take);
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_ends_before_anyone_else_may_begin_and_so_does_its_last_write() {
        let began = Instant::now();
        let leadership = Leadership {
            leader: Some("a".into()),
            term: Some(Term {
                until: began + DURATION * 2 / 3,
                margin: DURATION / 3,
            }),
        };
        advance(DURATION * 2 / 3 - Duration::from_millis(1)).await;
        assert!(leadership.deadline().unwrap() < began + DURATION);
        advance(Duration::from_millis(1)).await;
        assert!(!leadership.leads());
    }
}
