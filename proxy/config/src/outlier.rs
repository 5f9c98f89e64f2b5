//! Outlier detection: which endpoints are taken out, for how long, and how they come back.
//!
//! Failures in a row eject an endpoint for a time that doubles with each further ejection. When it has
//! lapsed the endpoint is half open: one request at a time is tried, success closes the circuit, failure
//! ejects again at once. After [`FORGIVEN`] without an ejection the doubling starts over. How much of a
//! service may be out at a time is bounded.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::endpoint::EndpointState;
use crate::traffic::OutlierDetection;

/// No ejection is longer, unless the base is.
const LONGEST: Duration = Duration::from_secs(300);

/// How long after the end of its last ejection an endpoint is as good as one that was never out.
const FORGIVEN: Duration = Duration::from_secs(600);

/// Instants as milliseconds, so that they fit an atomic. 0 is "never".
fn millis(now: Instant) -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since = now.saturating_duration_since(*START).as_millis();
    u64::try_from(since)
        .unwrap_or(u64::MAX - 1)
        .saturating_add(1)
}

/// The circuit of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Ejection {
    consecutive: AtomicU32,
    /// Until when; 0: closed. In the past: half open.
    until: AtomicU64,
    times: AtomicU32,
    /// When the last ejection ended, or will end.
    last_until: AtomicU64,
}

impl EndpointState {
    /// Out at the moment: no request should go there while others are left.
    pub fn is_ejected(&self, now: Instant) -> bool {
        let until = self.ejection.until.load(Ordering::Relaxed);
        until != 0 && millis(now) < until
    }

    /// Takes requests: not ejected, and if it is half open, nobody is trying it right now.
    pub fn is_available(&self, now: Instant) -> bool {
        let until = self.ejection.until.load(Ordering::Relaxed);
        until == 0 || (millis(now) >= until && self.in_flight() == 0)
    }

    /// A request went well.
    pub fn on_success(&self, now: Instant) {
        let ejection = &self.ejection;
        if ejection.consecutive.load(Ordering::Relaxed) != 0 {
            ejection.consecutive.store(0, Ordering::Relaxed);
        }
        let until = ejection.until.load(Ordering::Relaxed);
        // What was sent before the ejection and succeeds late must not end it.
        if until != 0 && millis(now) >= until {
            let _ = ejection
                .until
                .compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Counts a failure; true when the endpoint should be ejected, which is up to its group.
    pub(crate) fn failed(&self, now: Instant, policy: &OutlierDetection) -> bool {
        let ejection = &self.ejection;
        let failures = ejection.consecutive.fetch_add(1, Ordering::Relaxed) + 1;
        let until = ejection.until.load(Ordering::Relaxed);
        let now = millis(now);
        let half_open = until != 0 && now >= until;
        let closed = until == 0;
        half_open || (closed && failures >= policy.consecutive_failures)
    }

    /// Takes the endpoint out from `now`. One caller at a time.
    pub(crate) fn eject(&self, now: Instant, policy: &OutlierDetection) {
        let ejection = &self.ejection;
        let longest = LONGEST.max(policy.base_ejection);
        let now = millis(now);
        let last = ejection.last_until.load(Ordering::Relaxed);
        if u128::from(now.saturating_sub(last)) > FORGIVEN.as_millis() {
            ejection.times.store(0, Ordering::Relaxed);
        }
        let times = ejection.times.fetch_add(1, Ordering::Relaxed).min(16);
        let lasts = policy.base_ejection.saturating_mul(1 << times).min(longest);
        let until = now.saturating_add(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
        ejection.consecutive.store(0, Ordering::Relaxed);
        ejection.last_until.store(until, Ordering::Relaxed);
        ejection.until.store(until, Ordering::Relaxed);
    }

    /// How often it has been ejected since it was last forgiven.
    pub fn ejections(&self) -> u32 {
        self.ejection.times.load(Ordering::Relaxed)
    }
}
