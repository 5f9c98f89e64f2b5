//! What one stream of a shared hop has carried one way: which hops have long streams on them.
//!
//! Nobody can tell from a head without a length that much will follow, and a stream cannot move. So the hop under it stops
//! taking others: what begins later is not behind it ([`crate::pool`]). Bytes count and time does not: a stream that is
//! open for long and says little holds nobody up, and hops would be dialled for nothing.

use std::cell::Cell;
use std::rc::Rc;

/// More than this makes a stream a long one. The same as makes a declared body one ([`crate::upstream`]).
const LONG: u64 = 1 << 20;

/// The long streams of one hop.
#[derive(Debug, Default)]
pub(crate) struct LongStreams(Cell<usize>);

impl LongStreams {
    /// Is there one?
    pub(crate) fn any(&self) -> bool {
        self.0.get() > 0
    }

    /// A stream has gone on.
    pub(crate) fn went_on(&self, before: u64, after: u64) {
        if before <= LONG && after > LONG {
            self.0.set(self.0.get() + 1);
        }
    }

    /// A stream that had come so far has ended.
    pub(crate) fn ended(&self, bytes: u64) {
        if bytes > LONG {
            self.0.set(self.0.get() - 1);
        }
    }
}

/// One stream, one way, from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Carried {
    bytes: u64,
    long: Rc<LongStreams>,
}

impl Carried {
    pub(crate) fn new(long: &Rc<LongStreams>) -> Self {
        Self {
            bytes: 0,
            long: long.clone(),
        }
    }

    /// So many bytes more.
    pub(crate) fn more(&mut self, bytes: usize) {
        let before = self.bytes;
        self.bytes += bytes as u64;
        self.long.went_on(before, self.bytes);
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.long.ended(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_has_long_streams_for_as_long_as_they_last() {
        let hop = Rc::new(LongStreams::default());
        let (mut one, mut other) = (Carried::new(&hop), Carried::new(&hop));
        one.more(1 << 20);
        assert!(!hop.any());
        one.more(1);
        one.more(1 << 20);
        other.more(2 << 20);
        assert!(hop.any());
        drop(one);
        assert!(hop.any());
        drop(other);
        assert!(!hop.any());
    }
}
