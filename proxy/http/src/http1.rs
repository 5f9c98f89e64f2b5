//! The HTTP/1.1 client codec: one connection to an application or an unmeshed peer, one request at a time.
//!
//! A connection is driven by the request that has it, not by a task of its own: no hand-over between tasks,
//! and the connection closes as soon as its request is dropped. Whole exchanges give it back to its
//! [`Shelf`]. Connections retire before their peer's idle close, so that no request meets one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use weft_identity::SpiffeId;
use weft_proxy_config::Permit;
use weft_proxy_net::{Drain, Hop, Io};

use crate::body::{Body, BodyError, Upload};
use crate::sent::SendError;
use crate::tasks::Bound;

/// Applications rarely keep idle connections for less than 5 s; the shortest usual default is what this is
/// below of.
pub(crate) const IDLE_UNTOLD: Duration = Duration::from_millis(3500);
/// How much earlier than the peer announces (`Keep-Alive: timeout=`) a connection retires.
const IDLE_MARGIN: Duration = Duration::from_secs(1);
/// Largest head of an answer.
const MAX_HEAD: usize = 256 * 1024;
const MAX_HEADERS: usize = 256;

/// One connection.
#[derive(Debug)]
pub(crate) struct Http1Conn {
    sender: SendRequest<Body>,
    /// Gone once it has ended, or when its rest is driven by a task.
    driver: Option<Connection<TokioIo<Io>, Body>>,
    identity: Option<SpiffeId>,
    drain: Drain,
    /// It has carried a request before.
    reused: bool,
    /// Not to be used from here on.
    expires: Instant,
    idle: Duration,
    _permit: Option<Permit>,
}

/// A request that got no answer, with what is left of it where it was not sent.
#[derive(Debug)]
pub(crate) struct Unsent {
    pub(crate) error: SendError,
    pub(crate) request: Option<Request<Body>>,
}

impl Http1Conn {
    /// A fresh connection. `idle` bounds how long it may rest on a shelf.
    pub(crate) async fn open(hop: Hop, permit: Option<Permit>, idle: Duration) -> Result<Self, hyper::Error> {
        let (sender, driver) = Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(hop.io))
            .await?;
        Ok(Self {
            sender,
            driver: Some(driver),
            identity: hop.identity,
            drain: hop.drain,
            reused: false,
            expires: Instant::now() + idle,
            idle,
            _permit: permit,
        })
    }

    pub(crate) fn identity(&self) -> Option<&SpiffeId> {
        self.identity.as_ref()
    }

    /// Whether a request may still be put on it; notices an end that the peer has sent meanwhile.
    fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_driver(cx);
        self.driver.is_some() && self.sender.is_ready() && Instant::now() < self.expires && !self.drain.is_draining()
    }

    fn poll_driver(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && let Poll::Ready(ended) = Pin::new(driver).poll(cx)
        {
            self.driver = None;
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP/1 connection ended");
            }
        }
    }

    /// Sends a request and waits for the head of its answer. `upload` is how far its body has come.
    pub(crate) async fn send(
        mut self: Box<Self>,
        request: Request<Body>,
        upload: Option<&Rc<Upload>>,
        shelf: &Rc<Shelf>,
    ) -> Result<Response<Body>, Unsent> {
        let answered = {
            let mut answer = pin!(self.sender.try_send_request(request));
            poll_fn(|cx| {
                if let Some(driver) = &mut self.driver
                    && Pin::new(driver).poll(cx).is_ready()
                {
                    self.driver = None;
                }
                answer.as_mut().poll(cx)
            })
            .await
        };
        match answered {
            Ok(response) => Ok(self.answered(response, upload, shelf).await),
            Err(mut error) => {
                let request = error.take_message();
                let kind = if request.is_some() {
                    SendError::Undelivered
                } else if upload.is_some_and(|upload| upload.broken.get()) {
                    SendError::ClientGone
                } else {
                    SendError::Reset
                };
                Err(Unsent { error: kind, request })
            }
        }
    }

    async fn answered(
        mut self: Box<Self>,
        response: Response<Incoming>,
        upload: Option<&Rc<Upload>>,
        shelf: &Rc<Shelf>,
    ) -> Response<Body> {
        self.reused = true;
        let idle = announced_idle(response.headers()).map_or(self.idle, |told| told.min(self.idle));
        self.expires = Instant::now() + idle;
        let (parts, incoming) = response.into_parts();
        // An answer that is ahead of its request's body must not make the body wait for its reader.
        let uploading = upload.is_some_and(|upload| !upload.done.get());
        let rest = if uploading {
            self.driver.take().map(|driver| {
                Bound::spawn(async move {
                    // Its end shows in the body of the answer.
                    let _ = driver.await;
                })
            })
        } else {
            None
        };
        let mut body = AppBody {
            incoming,
            conn: Some(self),
            shelf: shelf.clone(),
            idle,
            _rest: rest,
        };
        if body.incoming.is_end_stream() && body._rest.is_none() {
            poll_fn(|cx| {
                body.give_back(cx);
                Poll::Ready(())
            })
            .await;
            return Response::from_parts(parts, Body::empty());
        }
        Response::from_parts(parts, Body::app(Box::new(body)))
    }

    /// For a connection that leaves HTTP: what drives it, and what sends on it.
    pub(crate) fn into_parts(self) -> (SendRequest<Body>, Option<Connection<TokioIo<Io>, Body>>, Option<Permit>) {
        (self.sender, self.driver, self._permit)
    }
}

/// `Keep-Alive: timeout=N`, less a margin.
fn announced_idle(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let seconds = value
        .split(',')
        .find_map(|parameter| parameter.trim().strip_prefix("timeout="))?
        .trim()
        .parse()
        .ok()?;
    let told = Duration::from_secs(seconds);
    // Half where the margin would leave nothing.
    Some(told.saturating_sub(IDLE_MARGIN).max(told / 2))
}

/// The body of an answer, with the connection that it comes on.
#[derive(Debug)]
pub(crate) struct AppBody {
    incoming: Incoming,
    conn: Option<Box<Http1Conn>>,
    shelf: Rc<Shelf>,
    idle: Duration,
    _rest: Option<Bound>,
}

impl AppBody {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // The driver reads only once the body has asked: ask, drive, look again.
        let mut frame = self.poll_once(cx);
        if frame.is_pending() && self.conn.as_ref().is_some_and(|conn| conn.driver.is_some()) {
            frame = self.poll_once(cx);
        }
        if matches!(frame, Poll::Ready(None)) || (frame.is_ready() && self.incoming.is_end_stream()) {
            self.give_back(cx);
        }
        frame.map_err(BodyError::Http1)
    }

    fn poll_once(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(conn) = &mut self.conn {
            conn.poll_driver(cx);
        }
        Pin::new(&mut self.incoming).poll_frame(cx)
    }

    /// The exchange is whole: the connection may carry another.
    fn give_back(&mut self, cx: &mut Context<'_>) {
        if let Some(mut conn) = self.conn.take() {
            conn.expires = Instant::now() + self.idle;
            if conn.is_usable(cx) {
                self.shelf.put(conn);
            }
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Idle connections to one peer, the one used last on top.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    idle: RefCell<VecDeque<Box<Http1Conn>>>,
    /// When it was last put to use.
    touched: Cell<Option<Instant>>,
}

/// Idle connections kept per peer and worker.
const SHELF_LIMIT: usize = 256;

impl Shelf {
    /// A connection that is ready for a request, to whom it is to lead.
    pub(crate) async fn take(&self, identity: Option<&SpiffeId>) -> Option<Box<Http1Conn>> {
        poll_fn(|cx| {
            self.touched.set(Some(Instant::now()));
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

    fn put(&self, conn: Box<Http1Conn>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() == SHELF_LIMIT {
            idle.pop_front();
        }
        idle.push_back(conn);
    }

    /// Closes what has rested too long.
    pub(crate) fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|conn| now < conn.expires && !conn.drain.is_draining());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.idle.borrow().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_retire_before_the_peer_closes_them() {
        let idle = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("keep-alive", value.parse().unwrap());
            announced_idle(&headers)
        };
        assert_eq!(idle("timeout=5"), Some(Duration::from_secs(4)));
        assert_eq!(idle("timeout=1, max=100"), Some(Duration::from_millis(500)));
        assert_eq!(idle("max=100"), None);
        assert_eq!(idle("timeout=0"), Some(Duration::ZERO));
    }
}
