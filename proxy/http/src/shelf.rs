//! Idle HTTP/1.1 connections to one peer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use tokio::time::Instant;
use weft_identity::SpiffeId;
use weft_proxy_config::Permit;

use crate::http1::Http1Conn;

/// Idle connections to one peer, the one used last on top.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    idle: RefCell<VecDeque<Box<Http1Conn>>>,
}

/// Idle connections kept per peer and worker.
const SHELF_LIMIT: usize = 256;

impl Shelf {
    /// A connection that is ready for a request, to whom it is to lead.
    pub(crate) async fn take(&self, identity: Option<&SpiffeId>) -> Option<Box<Http1Conn>> {
        poll_fn(|cx| {
            loop {
                let Some(mut conn) = self.idle.borrow_mut().pop_back() else {
                    return Poll::Ready(None);
                };
                if conn.identity() == identity && conn.is_usable(cx) {
                    return Poll::Ready(Some(conn));
                }
            }
        })
        .await
    }

    pub(crate) fn put(&self, conn: Box<Http1Conn>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() == SHELF_LIMIT {
            idle.pop_front();
        }
        idle.push_back(conn);
    }

    /// Closes what has rested too long, and what rests in a place that others want.
    pub(crate) fn sweep(&self, now: Instant) {
        self.idle
            .borrow_mut()
            .retain(|conn| !conn.is_over(now) && !conn.permit().is_some_and(Permit::is_wanted));
    }

    /// Closes the connection of these that has rested longest.
    pub(crate) fn evict(&self, whose: impl Fn(&Permit) -> bool) -> bool {
        let mut idle = self.idle.borrow_mut();
        let found = idle
            .iter()
            .position(|conn| conn.permit().is_some_and(&whose));
        found.and_then(|found| idle.remove(found)).is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }
}
