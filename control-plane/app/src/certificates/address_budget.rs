//! How often one address may ask for a certificate.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Requests at once.
const BURST: u32 = 20;
/// One more each.
const REFILL: Duration = Duration::from_secs(1);
/// Addresses remembered; beyond, those that have everything again are forgotten.
const ADDRESSES: usize = 10_000;

/// By address: when its budget will be full again.
#[derive(Debug, Default)]
pub(super) struct AddressBudget(Mutex<HashMap<IpAddr, Instant>>);

impl AddressBudget {
    /// Whether one more request of this address is to be worked on.
    pub fn spend(&self, address: IpAddr, now: Instant) -> bool {
        let mut full_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= ADDRESSES {
            full_at.retain(|_, at| *at > now);
        }
        let at = full_at.entry(address).or_insert(now);
        let next = (*at).max(now) + REFILL;
        if next - now > REFILL * BURST {
            return false;
        }
        *at = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_one_a_second() {
        let budget = AddressBudget::default();
        let (address, start) = (IpAddr::from([10, 0, 0, 1]), Instant::now());
        let passed = (0..100).filter(|_| budget.spend(address, start)).count();
        assert_eq!(passed, 20);
        assert!(
            budget.spend(IpAddr::from([10, 0, 0, 2]), start),
            "others go on"
        );
        assert!(budget.spend(address, start + REFILL));
        assert!(!budget.spend(address, start + REFILL));
    }
}
