//! When to renew a leaf: at about two thirds of its life, and again and again if that fails.

use std::time::{Duration, SystemTime};

use rand::{Rng, RngCore};

/// The renewal falls at random into this part of the leaf's life, so that pods which started
/// together do not renew together.
const WINDOW: std::ops::Range<f64> = 0.60..0.70;
/// From this part of the leaf's life on, not having renewed is an alarm.
const ALARM: f64 = 0.80;
/// The first pause after a failure, as a part of the leaf's life, and its limits.
const FIRST_PAUSE_PART: u32 = 1000;
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Pauses double up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The renewal times of one leaf. Make a new one for each leaf.
#[derive(Debug, Clone)]
pub struct RotationSchedule {
    not_after: SystemTime,
    life: Duration,
    next_attempt: SystemTime,
    failures: u32,
}

impl RotationSchedule {
    /// The schedule of a leaf with this validity.
    pub fn new(not_before: SystemTime, not_after: SystemTime, rng: &mut impl RngCore) -> Self {
        let life = not_after.duration_since(not_before).unwrap_or_default();
        Self {
            not_after,
            life,
            next_attempt: not_before + life.mul_f64(rng.random_range(WINDOW)),
            failures: 0,
        }
    }

    /// When to try to renew.
    pub fn next_attempt(&self) -> SystemTime {
        self.next_attempt
    }

    /// How long to wait from `now` until the next attempt; zero when it is due.
    pub fn delay(&self, now: SystemTime) -> Duration {
        self.next_attempt.duration_since(now).unwrap_or_default()
    }

    /// An attempt has failed: sets and returns when to try again. The pause doubles each time, is
    /// random between half and all of that, and gets shorter again as the end comes near.
    pub fn failed(&mut self, now: SystemTime, rng: &mut impl RngCore) -> SystemTime {
        let first = (self.life / FIRST_PAUSE_PART).clamp(SHORTEST_PAUSE, LONGEST_FIRST_PAUSE);
        let doubled = first.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let left = self.not_after.duration_since(now).unwrap_or_default();
        // Past the end there is nothing to hurry for but recovery itself: the usual limit applies.
        let limit = if left.is_zero() {
            LONGEST_PAUSE
        } else {
            left / 4
        };
        let pause = doubled.min(LONGEST_PAUSE).min(limit).max(first);
        self.failures = self.failures.saturating_add(1);
        self.next_attempt = now + pause.mul_f64(rng.random_range(0.5..=1.0));
        self.next_attempt
    }

    /// Attempts that have failed so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the leaf should have been renewed long ago. It is served to its end all the same.
    pub fn alarm(&self, now: SystemTime) -> bool {
        let left = self.not_after.duration_since(now).unwrap_or_default();
        left < self.life.mul_f64(1.0 - ALARM)
    }

    /// Whether the leaf has expired.
    pub fn expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }
}
