//! Hands out addresses: pods from 10.244.0.0/16 and fd00:10:244::/64, Services from 10.96.0.0/16
//! and fd00:10:96::/112. The pair of a pod or Service shares its low bits. Addresses of pods are
//! used again only after all others were, so that a replaced pod is visibly another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::workload::Key;

/// Everything that is handed out here: the mesh's own addresses.
pub const RANGES: [&str; 4] = [
    "10.244.0.0/16",
    "fd00:10:244::/64",
    "10.96.0.0/16",
    "fd00:10:96::/112",
];

/// An IPv4 and an IPv6 address that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
}

impl Pair {
    /// Both, IPv4 first.
    pub fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// Low bits that are left to gateways and the like.
const FIRST: u16 = 10;

fn pod_pair(low: u16) -> Pair {
    let [high_byte, low_byte] = low.to_be_bytes();
    Pair {
        v4: Ipv4Addr::new(10, 244, high_byte, low_byte),
        v6: Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, low),
    }
}

fn service_pair(low: u16) -> Pair {
    let [high_byte, low_byte] = low.to_be_bytes();
    Pair {
        v4: Ipv4Addr::new(10, 96, high_byte, low_byte),
        v6: Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, low),
    }
}

/// The pods' addresses.
#[derive(Debug, Default)]
pub struct PodAddresses {
    next: u16,
    taken: BTreeSet<Pair>,
}

impl PodAddresses {
    /// A pair that nobody has, `None` when all 65,000 are taken.
    pub fn take(&mut self) -> Option<Pair> {
        for _ in 0..=u16::MAX {
            self.next = if self.next < FIRST || self.next == u16::MAX {
                FIRST
            } else {
                self.next + 1
            };
            let pair = pod_pair(self.next);
            if self.taken.insert(pair) {
                return Some(pair);
            }
        }
        None
    }

    /// Takes a pair back.
    pub fn release(&mut self, pair: Pair) {
        self.taken.remove(&pair);
    }
}

/// The Services' addresses: the same for as long as a mesh runs.
#[derive(Debug, Default)]
pub struct ServiceAddresses {
    assigned: BTreeMap<Key, Pair>,
    last: u16,
}

impl ServiceAddresses {
    /// The pair of this Service, assigned at the first call.
    pub fn of(&mut self, service: &Key) -> Pair {
        if let Some(pair) = self.assigned.get(service) {
            return *pair;
        }
        self.last = self.last.max(FIRST - 1) + 1;
        let pair = service_pair(self.last);
        self.assigned.insert(service.clone(), pair);
        pair
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_pod_address_is_not_the_next_one() {
        let mut addresses = PodAddresses::default();
        let first = addresses.take().unwrap();
        assert_eq!(first.v4, Ipv4Addr::new(10, 244, 0, 10));
        assert_eq!(first.v6, "fd00:10:244::a".parse::<Ipv6Addr>().unwrap());
        addresses.release(first);
        assert_ne!(addresses.take().unwrap(), first);
    }

    #[test]
    fn a_service_keeps_its_address() {
        let mut addresses = ServiceAddresses::default();
        let (web, api) = (Key::new("shop", "web"), Key::new("shop", "api"));
        let first = addresses.of(&web);
        assert_eq!(first.v4, Ipv4Addr::new(10, 96, 0, 10));
        assert_ne!(addresses.of(&api), first);
        assert_eq!(addresses.of(&web), first);
    }
}
