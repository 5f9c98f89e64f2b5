//! The choice among the endpoints of a backend. Pure: latency, randomness and the time come from the
//! caller, load and health from the shared state of the endpoints.
//!
//! Least latency is the better of two random choices by peak-EWMA cost (Finagle's `p2c/peakEwma`);
//! weights decide how likely an endpoint is drawn. Endpoints that are ejected or were tried already are
//! left out while there are others.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::Rng;

use crate::backend::{BackendSnapshot, BackendState, Target};
use crate::traffic::Balancing;

/// Draws before the whole list is looked at.
const DRAWS: usize = 4;

/// The endpoint that the next attempt goes to. `tried` has the IDs of those that were tried for this
/// request; `latency` is the worker's own average for an ID in any unit, 0 where it has none.
///
/// With nothing healthy left it chooses among the ejected ones (panic mode), with everything tried it
/// chooses among the tried ones. None: no endpoint takes requests at all.
pub fn pick<'a>(
    snapshot: &'a BackendSnapshot,
    state: &BackendState,
    now: Instant,
    tried: &[u64],
    rng: &mut impl Rng,
    latency: impl Fn(u64) -> f64,
) -> Option<&'a Target> {
    let targets = snapshot.targets();
    if targets.len() <= 1 {
        return targets.first();
    }
    let fresh = |target: &Target| !tried.contains(&target.id());
    let healthy = |target: &Target| target.endpoint.state.is_available(now);
    let start = first_index(snapshot, state, rng);
    match snapshot.policy.balancing {
        Balancing::RoundRobin => next_from(targets, start, |t| fresh(t) && healthy(t)),
        Balancing::LeastLatency => two_choices(
            snapshot,
            start,
            rng,
            |t| fresh(t) && healthy(t),
            |a, b| cheaper(a, b, &latency),
        ),
    }
    .or_else(|| next_from(targets, start, healthy))
    .or_else(|| next_from(targets, start, fresh))
    .or_else(|| targets.get(start))
}

/// Where the search starts: the next in turn, or a draw by weight.
fn first_index(snapshot: &BackendSnapshot, state: &BackendState, rng: &mut impl Rng) -> usize {
    let total = snapshot.total_weight();
    let point = match snapshot.policy.balancing {
        Balancing::RoundRobin => {
            let turn = state.turn.fetch_add(1, Ordering::Relaxed) % total;
            // Weighted ones are visited spread out, not in runs.
            u128::from(turn) * u128::from(stride(total)) % u128::from(total)
        }
        Balancing::LeastLatency => u128::from(rng.random_range(0..total)),
    };
    snapshot.at_weight(point as u64)
}

/// A number coprime to `total`, near its golden section: stepping by it visits every point once.
fn stride(total: u64) -> u64 {
    let mut step = (total as f64 * 0.618) as u64 | 1;
    while gcd(step, total) != 1 {
        step += 1;
    }
    step
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn next_from(
    targets: &[Target],
    start: usize,
    wanted: impl Fn(&Target) -> bool,
) -> Option<&Target> {
    let (before, from) = targets.split_at(start);
    from.iter().chain(before).find(|target| wanted(target))
}

fn two_choices<'a>(
    snapshot: &'a BackendSnapshot,
    start: usize,
    rng: &mut impl Rng,
    wanted: impl Fn(&Target) -> bool,
    cheaper: impl Fn(&'a Target, &'a Target) -> &'a Target,
) -> Option<&'a Target> {
    let targets = snapshot.targets();
    let mut first: Option<&Target> = None;
    let mut index = start;
    for _ in 0..DRAWS {
        let drawn = &targets[index];
        if wanted(drawn) {
            match first {
                None => first = Some(drawn),
                Some(other) if other.id() != drawn.id() => return Some(cheaper(other, drawn)),
                Some(_) => {}
            }
        }
        index = snapshot.at_weight(rng.random_range(0..snapshot.total_weight()));
    }
    // Few are left, or one is very heavy: compare with the next that will do.
    let first = first.or_else(|| next_from(targets, index, &wanted))?;
    let second = next_from(targets, index, |t| t.id() != first.id() && wanted(t));
    Some(second.map_or(first, |second| cheaper(first, second)))
}

/// By average latency times what is in flight; by what is in flight alone while one has no average yet.
fn cheaper<'a>(a: &'a Target, b: &'a Target, latency: impl Fn(u64) -> f64) -> &'a Target {
    let load = |target: &Target| f64::from(target.endpoint.state.in_flight()) + 1.0;
    let (mut of_a, mut of_b) = (load(a), load(b));
    let (latency_a, latency_b) = (latency(a.id()), latency(b.id()));
    if latency_a > 0.0 && latency_b > 0.0 {
        of_a *= latency_a;
        of_b *= latency_b;
    }
    if of_b < of_a { b } else { a }
}

/// A moving average of latency that follows peaks at once and forgets them slowly. One per worker and
/// endpoint.
#[derive(Debug, Clone)]
pub struct PeakEwma {
    seconds: f64,
    at: Instant,
}

impl PeakEwma {
    /// How fast the past is forgotten.
    pub const DECAY: Duration = Duration::from_secs(10);

    /// Begins with the first observation.
    pub fn new(latency: Duration, now: Instant) -> Self {
        Self {
            seconds: latency.as_secs_f64(),
            at: now,
        }
    }

    /// Takes in one more.
    pub fn observe(&mut self, latency: Duration, now: Instant) {
        let observed = latency.as_secs_f64();
        if observed > self.seconds {
            self.seconds = observed;
        } else {
            let keep = self.keep(now);
            self.seconds = self.seconds * keep + observed * (1.0 - keep);
        }
        self.at = now;
    }

    /// Seconds as of `now`: what has not been observed for long becomes cheap, and so is tried again.
    pub fn seconds(&self, now: Instant) -> f64 {
        (self.seconds * self.keep(now)).max(1e-9)
    }

    fn keep(&self, now: Instant) -> f64 {
        let past = now.saturating_duration_since(self.at).as_secs_f64();
        // exp(-x) within 2% down to a tenth; `exp` itself would be all that brings libm into every sidecar's memory.
        (1.0 + past / Self::DECAY.as_secs_f64() / 128.0).powi(-128)
    }
}

#[cfg(test)]
mod tests;
