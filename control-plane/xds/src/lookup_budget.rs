//! How fast one proxy may subscribe to new names.

use std::time::Duration;

use rand::Rng;

use tokio::time::Instant;

/// Limits of one stream.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// New names per second in the long run.
    pub lookups_per_second: u32,
    /// New names at once.
    pub lookup_burst: u32,
    /// Time for the first request, which says who the client is.
    pub first_request: Duration,
    /// How long a stream may last, about: its client comes back by a new connection, and so the
    /// streams spread over the replicas that there are by then.
    pub longest_stream: Duration,
}

impl Limits {
    /// When a stream that is opened now has lasted long enough: not all of them at once.
    pub(crate) fn stream_end(&self, now: Instant) -> Instant {
        now + self
            .longest_stream
            .mul_f64(rand::rng().random_range(0.5..1.0))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lookups_per_second: 200,
            lookup_burst: 2000,
            first_request: Duration::from_secs(10),
            longest_stream: Duration::from_secs(3600),
        }
    }
}

/// A token bucket that may go into debt: a request is taken whole, the next one has to wait.
#[derive(Debug)]
pub(crate) struct LookupBudget {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl LookupBudget {
    pub fn new(limits: &Limits, now: Instant) -> Self {
        let burst = f64::from(limits.lookup_burst);
        Self {
            per_second: f64::from(limits.lookups_per_second.max(1)),
            burst,
            tokens: burst,
            filled: now,
        }
    }

    /// Pays for `names`. Returns until when nothing more may be read, if the budget is spent.
    pub fn spend(&mut self, names: usize, now: Instant) -> Option<Instant> {
        let earned = now.duration_since(self.filled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + earned).min(self.burst) - names as f64;
        self.filled = now;
        let debt = -self.tokens;
        (debt > 0.0).then(|| now + Duration::from_secs_f64(debt / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_a_flood_waits_for_what_it_took() {
        let start = Instant::now();
        let limits = Limits {
            lookups_per_second: 10,
            lookup_burst: 100,
            ..Limits::default()
        };
        let mut budget = LookupBudget::new(&limits, start);
        assert_eq!(budget.spend(100, start), None);
        let pause = budget.spend(20, start);
        assert_eq!(pause, Some(start + Duration::from_secs(2)));
        assert_eq!(budget.spend(0, start + Duration::from_secs(2)), None);
        let later = start + Duration::from_secs(100);
        assert_eq!(budget.spend(100, later), None);
        assert!(budget.spend(1, later).is_some(), "the bucket has a brim");
    }
}
