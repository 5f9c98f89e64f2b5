//! The retry budget: retries stay within a share of the requests of the last ten seconds, with a floor
//! per second, so that a service which fails everything sees little more than its plain load.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use crate::traffic::RetryPolicy;

/// Seconds that are looked back on.
const WINDOW: usize = 10;

#[derive(Debug, Default)]
struct Second {
    /// Which second this slot counts.
    stamp: AtomicU64,
    requests: AtomicU32,
    retries: AtomicU32,
}

/// Requests and retries of one backend over the last seconds, shared by all workers.
#[derive(Debug)]
pub struct RetryBudget {
    start: Instant,
    seconds: [Second; WINDOW],
    /// Withdrawals are rare and must not overshoot: one at a time.
    withdrawal: Mutex<()>,
}

impl RetryBudget {
    /// An empty one; seconds are counted from `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            start: now,
            seconds: Default::default(),
            withdrawal: Mutex::new(()),
        }
    }

    fn stamp(&self, now: Instant) -> u64 {
        // From 1, so that slots which were never used are always old.
        now.saturating_duration_since(self.start).as_secs() + WINDOW as u64
    }

    fn slot(&self, stamp: u64) -> &Second {
        let slot = &self.seconds[(stamp % WINDOW as u64) as usize];
        let seen = slot.stamp.load(Ordering::Relaxed);
        if seen < stamp
            && slot
                .stamp
                .compare_exchange(seen, stamp, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            slot.requests.store(0, Ordering::Relaxed);
            slot.retries.store(0, Ordering::Relaxed);
        }
        slot
    }

    /// Counts a request, not a retry.
    pub fn deposit(&self, now: Instant) {
        self.slot(self.stamp(now))
            .requests
            .fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one retry out of the budget, if there is one.
    pub fn try_withdraw(&self, now: Instant, policy: &RetryPolicy) -> bool {
        let stamp = self.stamp(now);
        let _one_at_a_time = self
            .withdrawal
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let current = self.slot(stamp);
        let (mut requests, mut retries) = (0_u64, 0_u64);
        for second in &self.seconds {
            if second.stamp.load(Ordering::Relaxed) + WINDOW as u64 > stamp {
                requests += u64::from(second.requests.load(Ordering::Relaxed));
                retries += u64::from(second.retries.load(Ordering::Relaxed));
            }
        }
        let under_floor = current.retries.load(Ordering::Relaxed) < policy.budget_min_per_second;
        let under_share = (retries + 1) * 100 <= requests * u64::from(policy.budget_percent);
        let allowed = under_floor || under_share;
        if allowed {
            current.retries.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn policy(percent: u32, floor: u32) -> RetryPolicy {
        RetryPolicy {
            budget_percent: percent,
            budget_min_per_second: floor,
            ..RetryPolicy::default()
        }
    }

    fn withdraw_all(budget: &RetryBudget, now: Instant, policy: &RetryPolicy) -> usize {
        (0..10_000)
            .take_while(|_| budget.try_withdraw(now, policy))
            .count()
    }

    #[test]
    fn retries_stay_within_the_share_of_requests() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        assert_eq!(withdraw_all(&budget, now, &policy(20, 0)), 0);
        for _ in 0..100 {
            budget.deposit(now);
        }
        assert_eq!(withdraw_all(&budget, now, &policy(20, 0)), 20);
        let later = now + Duration::from_secs(5);
        assert_eq!(withdraw_all(&budget, later, &policy(20, 0)), 0);
        let much_later = now + Duration::from_secs(30);
        assert_eq!(withdraw_all(&budget, much_later, &policy(20, 0)), 0);
    }

    #[test]
    fn the_floor_is_there_every_second_without_any_requests() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        for second in 0..25 {
            let now = now + Duration::from_secs(second);
            assert_eq!(withdraw_all(&budget, now, &policy(20, 3)), 3);
        }
    }

    #[test]
    fn old_seconds_are_forgotten() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        for _ in 0..1_000 {
            budget.deposit(now);
        }
        let after = now + Duration::from_secs(WINDOW as u64);
        assert_eq!(withdraw_all(&budget, after, &policy(50, 0)), 0);
    }
}
