//! Destinations whose server is known to speak first, learned by one worker.
//!
//! It decides only when such a destination is dialled for a silent client, never whether the
//! client's bytes are inspected.

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::SocketAddr;

/// Beyond this many it begins anew: learning again costs one connection 20 ms.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct KnownPorts(RefCell<HashSet<SocketAddr>>);

impl KnownPorts {
    pub(crate) fn server_speaks_first(&self, at: SocketAddr) -> bool {
        self.0.borrow().contains(&at)
    }

    /// Takes in who spoke first this time.
    pub(crate) fn learn(&self, at: SocketAddr, server_first: bool) {
        let mut known = self.0.borrow_mut();
        if !server_first {
            known.remove(&at);
            return;
        }
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learned_is_bounded_and_can_be_unlearned() {
        let known = KnownPorts::default();
        let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
        known.learn(at(3306), true);
        assert!(known.server_speaks_first(at(3306)));
        known.learn(at(3306), false);
        assert!(!known.server_speaks_first(at(3306)));
        for port in 0..=MOST as u16 {
            known.learn(at(port), true);
        }
        assert!(known.0.borrow().len() <= MOST);
        assert!(known.server_speaks_first(at(MOST as u16)));
    }
}
