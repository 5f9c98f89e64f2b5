//! The HTTP/2 connections of one worker to one peer: which of them takes the next request.
//!
//! Streams that turned out long ([`crate::carried`]) keep their connection to themselves, while such connections are few;
//! where another can not be had, whatever has room is better than nothing. Does not dial ([`crate::pool`]).

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::time::Instant;
use weft_identity::SpiffeId;
use weft_proxy_config::Permit;

use crate::http2_client::Http2Conn;
use crate::pool::PoolError;

/// Hops to one peer that are left to the long streams on them; beyond these, all are shared by all.
const LEFT_TO_LONG_STREAMS: usize = 4;

/// HTTP/2 connections that take up to `streams` requests each.
#[derive(Debug)]
pub(crate) struct Lane {
    streams: usize,
    pub(crate) conns: RefCell<SmallVec<[Http2Conn; 2]>>,
    pub(crate) dialling: RefCell<Option<Rc<Dialling>>>,
}

/// A connection on its way, and those who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Dialling {
    pub(crate) waiting: Cell<usize>,
    pub(crate) outcome: OnceCell<Result<(), PoolError>>,
    pub(crate) done: Notify,
}

impl Lane {
    pub(crate) fn new(streams: usize) -> Self {
        Self {
            streams,
            conns: RefCell::default(),
            dialling: RefCell::default(),
        }
    }

    /// The first connection that has room: the later ones are needed at peaks only, and can idle out. What has long
    /// streams on it is passed over, while there are few of these.
    pub(crate) fn with_room(&self, identity: Option<&SpiffeId>) -> Option<Http2Conn> {
        let mut conns = self.conns.borrow_mut();
        conns.retain(|conn| {
            if conn.identity() != identity {
                // Another workload has this address now.
                conn.retire();
            }
            !conn.is_retired()
        });
        let room = |conn: &&Http2Conn| conn.has_room(self.streams);
        let held_up = |conn: &&Http2Conn| conn.is_held_up();
        let free = conns.iter().filter(room).find(|conn| !held_up(conn));
        if free.is_none() && conns.iter().filter(held_up).count() >= LEFT_TO_LONG_STREAMS {
            return conns.iter().find(room).cloned();
        }
        free.cloned()
    }

    /// One that has room, whatever is on it.
    pub(crate) fn with_any_room(&self) -> Option<Http2Conn> {
        let conns = self.conns.borrow();
        conns
            .iter()
            .find(|conn| conn.has_room(self.streams))
            .cloned()
    }

    /// A dial under way that has room for one more who waits.
    pub(crate) fn joinable(&self) -> Option<Rc<Dialling>> {
        let dialling = self.dialling.borrow();
        dialling
            .as_ref()
            .filter(|dialling| dialling.waiting.get() < self.streams)
            .cloned()
    }

    pub(crate) fn sweep(&self, now: Instant, idle_timeout: Duration) {
        self.conns.borrow_mut().retain(|conn| {
            let idle = conn
                .idle_since()
                .is_some_and(|since| now.duration_since(since) >= idle_timeout);
            if idle || conn.rests_in(Permit::is_wanted) {
                conn.retire();
            }
            !conn.is_retired()
        });
    }

    /// Closes a connection of these on which nothing is under way.
    pub(crate) fn evict(&self, whose: impl Fn(&Permit) -> bool) -> bool {
        let mut conns = self.conns.borrow_mut();
        let found = conns.iter().position(|conn| conn.rests_in(&whose));
        found
            .inspect(|found| conns.remove(*found).retire())
            .is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.conns.borrow().is_empty() && self.dialling.borrow().is_none()
    }
}
