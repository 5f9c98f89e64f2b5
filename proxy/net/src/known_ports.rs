//! Who speaks first at a destination, learned by one worker.
//!
//! It decides only when a server is dialled for a silent client, never whether the client's bytes
//! are inspected.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::detect::Speaks;
use crate::first_bytes::Heard;
use crate::worker::Limits;

/// Beyond this many it begins anew: learning again costs one connection 20 ms.
const MOST: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Client,
    Server,
}

#[derive(Debug, Default)]
pub(crate) struct KnownPorts(RefCell<HashMap<SocketAddr, First>>);

impl KnownPorts {
    /// After how much silence a server may be dialled for a client of this destination. Where
    /// clients speak first, one that does not has only been held up: busy machines are not to do
    /// another handshake for each.
    pub(crate) fn dial_after(&self, at: SocketAddr, limits: &Limits) -> Duration {
        match self.0.borrow().get(&at) {
            Some(First::Server) => Duration::ZERO,
            Some(First::Client) => limits.held_up_timeout,
            None => limits.server_first_after,
        }
    }

    /// Takes in what a client was heard to say. Of the mesh's own TLS, and of opaque bytes, nothing is learned.
    pub(crate) fn client_spoke(&self, at: SocketAddr, heard: &Heard) {
        match heard {
            Heard::Speaks(Speaks::Http1 | Speaks::Http2) => self.learn(at, First::Client),
            Heard::Speaks(Speaks::Tls(hello)) if !hello.mesh => self.learn(at, First::Client),
            _ => {}
        }
    }

    /// Takes in how a server greeted.
    pub(crate) fn server_spoke(&self, at: SocketAddr, greeting: &[u8]) {
        if !greeting.is_empty() {
            self.learn(at, First::Server);
        }
    }

    fn learn(&self, at: SocketAddr, first: First) {
        let mut known = self.0.borrow_mut();
        if known.len() >= MOST && !known.contains_key(&at) {
            known.clear();
        }
        known.insert(at, first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learned_is_bounded_and_can_be_unlearned() {
        let (known, limits) = (KnownPorts::default(), Limits::default());
        let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let after = |port| known.dial_after(at(port), &limits);
        assert_eq!(after(3306), limits.server_first_after);
        known.server_spoke(at(3306), b"");
        known.client_spoke(at(3306), &Heard::Finished);
        assert_eq!(after(3306), limits.server_first_after);
        known.server_spoke(at(3306), b"220");
        assert_eq!(after(3306), Duration::ZERO);
        known.client_spoke(at(3306), &Heard::Speaks(Speaks::Http1));
        assert_eq!(after(3306), limits.held_up_timeout);
        for port in 0..=MOST as u16 {
            known.server_spoke(at(port), b"220");
        }
        assert!(known.0.borrow().len() <= MOST);
        assert_eq!(after(MOST as u16), Duration::ZERO);
    }
}
