//! Pauses between attempts: they double, with jitter, so that proxies which lost the control plane
//! together do not come back together.

use std::time::Duration;

use rand::Rng;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure: at random between half of it and all.
    pub fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(10));
        self.failures += 1;
        doubled.min(LONGEST).mul_f64(rng.random_range(0.5..=1.0))
    }

    /// It works again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_start_over() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        let mut full = FIRST;
        for _ in 0..40 {
            let pause = backoff.next(&mut rng);
            assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
            full = (full * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.next(&mut rng) <= FIRST);
    }
}
