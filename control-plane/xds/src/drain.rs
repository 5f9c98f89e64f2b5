//! When may a pod that is being deleted stop accepting? Once nobody sends it new requests: no
//! current resource offers its addresses any more, and every stream that was offered one has
//! confirmed that it went away.
//!
//! Relies on compile: from the snapshot on in which a pod is being deleted, its endpoints are
//! terminating everywhere, also where nobody subscribes yet.
//!
//! Counts by address only; topics report what they offer and who still has to confirm. Only pods
//! whose deletion this tracker has seen begin are ever called drained: after a restart it does not
//! know what proxies hold that have not come back yet (those pods go by their own deadline).

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::stream_id::StreamId;

/// An address that left a topic, and the streams that may still use it.
#[derive(Debug)]
pub(crate) struct Departure {
    pub address: IpAddr,
    /// When it left.
    pub epoch: u64,
    pub waiting: HashSet<StreamId>,
}

#[derive(Debug, Default)]
pub(crate) struct DrainTracker {
    /// How many topics offer the address.
    offered: HashMap<IpAddr, usize>,
    /// How many topics have an open departure of it.
    departing: HashMap<IpAddr, usize>,
    /// Pods whose deletion was seen to begin, by each of their addresses.
    leaving: HashMap<IpAddr, Arc<str>>,
    /// Addresses of those pods.
    addresses: HashMap<Arc<str>, Box<[IpAddr]>>,
    drained: HashSet<Arc<str>>,
}

impl DrainTracker {
    pub fn offer(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            *self.offered.entry(*address).or_default() += 1;
        }
    }

    /// Returns the pod that is drained by this, if one is.
    #[must_use]
    pub fn withdraw(&mut self, address: IpAddr) -> Option<Arc<str>> {
        decrease(&mut self.offered, address);
        self.check(address)
    }

    pub fn depart(&mut self, address: IpAddr) {
        *self.departing.entry(address).or_default() += 1;
    }

    /// As [`DrainTracker::withdraw`].
    #[must_use]
    pub fn departed(&mut self, address: IpAddr) -> Option<Arc<str>> {
        decrease(&mut self.departing, address);
        self.check(address)
    }

    /// The pod began to be deleted. Returns whether it is drained already.
    #[must_use]
    pub fn leave(&mut self, pod: &Arc<str>, addresses: &[IpAddr]) -> bool {
        for address in addresses {
            self.leaving.insert(*address, Arc::clone(pod));
        }
        self.addresses.insert(Arc::clone(pod), addresses.into());
        self.check_pod(pod)
    }

    /// The pod is gone, or is not being deleted after all. Returns whether it was drained.
    pub fn forget(&mut self, pod: &str) -> bool {
        for address in self.addresses.remove(pod).iter().flatten() {
            if self.leaving.get(address).is_some_and(|p| **p == *pod) {
                self.leaving.remove(address);
            }
        }
        self.drained.remove(pod)
    }

    pub fn is_drained(&self, pod: &str) -> bool {
        self.drained.contains(pod)
    }

    /// Addresses of pods that are being deleted and not drained.
    pub fn open_addresses(&self) -> Vec<IpAddr> {
        let open = |(_, pod): &(&IpAddr, &Arc<str>)| !self.drained.contains(*pod);
        self.leaving.iter().filter(open).map(|(a, _)| *a).collect()
    }

    fn check(&mut self, address: IpAddr) -> Option<Arc<str>> {
        let pod = Arc::clone(self.leaving.get(&address)?);
        self.check_pod(&pod).then_some(pod)
    }

    fn check_pod(&mut self, pod: &Arc<str>) -> bool {
        let Some(addresses) = self.addresses.get(pod) else {
            return false;
        };
        let free = |a: &IpAddr| !self.offered.contains_key(a) && !self.departing.contains_key(a);
        addresses.iter().all(free) && self.drained.insert(Arc::clone(pod))
    }
}

fn decrease(counts: &mut HashMap<IpAddr, usize>, address: IpAddr) {
    if let Some(count) = counts.get_mut(&address) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&address);
        }
    }
}
