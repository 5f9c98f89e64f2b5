//! The HTTP/1.1 client codec: one connection to an application or an unmeshed peer, one request at a time.
//!
//! A connection is driven by the request that has it, not by a task of its own: no hand-over between tasks,
//! and the connection closes as soon as its request is dropped. Whole exchanges give it back to its
//! [`Shelf`]. Connections retire before their peer's idle close, so that no request meets one.

use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
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
use crate::shelf::Shelf;
use crate::tasks::Bound;

/// Applications rarely keep idle connections for less than 5 s; the shortest usual default is what this is
/// below of.
pub(crate) const IDLE_UNTOLD: Duration = Duration::from_millis(3500);
/// How much earlier than the peer announces (`Keep-Alive: timeout=`) a connection retires.
const IDLE_MARGIN: Duration = Duration::from_secs(1);
/// Largest head of an answer.
const MAX_HEAD: usize = 256 * 1024;

/// One connection.
#[derive(Debug)]
pub(crate) struct Http1Conn {
    sender: SendRequest<Body>,
    driver: Driver,
    identity: Option<SpiffeId>,
    drain: Drain,
    /// It has carried an exchange before.
    reused: bool,
    /// Not to be used from here on.
    expires: Instant,
    idle: Duration,
    permit: Option<Permit>,
    /// Ready when a hop must end whatever is under way; plain connections end with their requests.
    cut: Option<Cut>,
}

struct Cut(Pin<Box<dyn Future<Output = ()>>>);

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cut")
    }
}

/// What reads and writes.
#[derive(Debug)]
enum Driver {
    Open(Connection<TokioIo<Io>, Body>),
    /// It has come to its end; the bytes are still there where the peer left HTTP.
    Ended(Connection<TokioIo<Io>, Body>),
    /// It failed, or a task drives it to its end.
    Gone,
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) {
        let Self::Open(driver) = self else { return };
        let Poll::Ready(ended) = Pin::new(driver).poll(cx) else {
            return;
        };
        if let Err(error) = &ended {
            tracing::debug!(%error, "an HTTP/1 connection ended");
        }
        *self = match (std::mem::replace(self, Self::Gone), ended) {
            (Self::Open(driver), Ok(())) => Self::Ended(driver),
            _ => Self::Gone,
        };
    }

    fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// Its rest, to be driven elsewhere.
    fn take(&mut self) -> Option<Connection<TokioIo<Io>, Body>> {
        match std::mem::replace(self, Self::Gone) {
            Self::Open(driver) => Some(driver),
            Self::Ended(_) | Self::Gone => None,
        }
    }
}

/// A connection that has left HTTP: its bytes, those first that were read already.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) ahead: Bytes,
    pub(crate) io: Io,
    /// When it must end.
    pub(crate) drain: Drain,
    _permit: Option<Permit>,
}

impl Http1Conn {
    /// A fresh connection. `idle` bounds how long it may rest on a shelf.
    pub(crate) async fn open(
        hop: Hop,
        permit: Option<Permit>,
        idle: Duration,
    ) -> Result<Self, hyper::Error> {
        let (sender, driver) = Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(hop.io))
            .await?;
        let cut = hop.identity.is_some().then(|| {
            let drain = hop.drain.clone();
            Cut(Box::pin(async move { drain.ended().await }))
        });
        Ok(Self {
            sender,
            cut,
            driver: Driver::Open(driver),
            identity: hop.identity,
            drain: hop.drain,
            reused: false,
            expires: Instant::now() + idle,
            idle,
            permit,
        })
    }

    pub(crate) fn identity(&self) -> Option<&SpiffeId> {
        self.identity.as_ref()
    }

    /// It may rest no longer.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.expires || self.drain.is_draining()
    }

    /// Whose place it takes.
    pub(crate) fn permit(&self) -> Option<&Permit> {
        self.permit.as_ref()
    }

    /// It has carried an exchange before.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if self
            .cut
            .as_mut()
            .is_some_and(|cut| cut.0.as_mut().poll(cx).is_ready())
        {
            self.cut = None;
            self.driver = Driver::Gone;
        }
        self.driver.poll(cx);
    }

    /// Whether a request may still be put on it; notices an end that the peer has sent meanwhile.
    pub(crate) fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        self.driver.is_open()
            && self.sender.is_ready()
            && Instant::now() < self.expires
            && !self.drain.is_draining()
    }

    /// Sends the request that is in `outgoing` and waits for the head of its answer. `upload` is how far its body has
    /// come. If nothing of it was sent, it is back in `outgoing`.
    pub(crate) async fn send(
        mut self: Box<Self>,
        outgoing: &mut Option<Request<Body>>,
        upload: Option<&Rc<Upload>>,
        shelf: &Rc<Shelf>,
    ) -> Result<Response<Body>, SendError> {
        let Some(request) = outgoing.take() else {
            return Err(SendError::Reset);
        };
        let connect = request.method() == Method::CONNECT;
        let answered = {
            let mut answer = pin!(self.sender.try_send_request(request));
            poll_fn(|cx| {
                self.drive(cx);
                answer.as_mut().poll(cx)
            })
            .await
        };
        match answered {
            Ok(response) if left_http(&response, connect) => {
                let raw = self.into_raw().await;
                raw.map(|raw| response.map(|_| Body::raw(Box::new(raw))))
                    .ok_or(SendError::Reset)
            }
            Ok(response) => {
                let mut response = self.answered(response, upload, shelf);
                poll_fn(|cx| {
                    response.body_mut().settle(cx);
                    Poll::Ready(())
                })
                .await;
                Ok(response)
            }
            Err(mut error) => {
                *outgoing = error.take_message();
                Err(if outgoing.is_some() {
                    SendError::Undelivered
                } else if upload.is_some_and(|upload| upload.broken.get()) {
                    SendError::ClientGone
                } else if self.reused && broke_off(error.error()) {
                    SendError::Stale
                } else {
                    SendError::Reset
                })
            }
        }
    }

    fn answered(
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
        let body = AppBody {
            incoming,
            conn: Some(self),
            shelf: shelf.clone(),
            idle,
            _rest: rest,
        };
        Response::from_parts(parts, Body::app(Box::new(body)))
    }

    /// The bytes of a connection whose peer has agreed to leave HTTP.
    async fn into_raw(mut self) -> Option<Raw> {
        poll_fn(|cx| {
            self.driver.poll(cx);
            if self.driver.is_open() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        let Driver::Ended(driver) = self.driver else {
            return None;
        };
        let parts = driver.into_parts();
        Some(Raw {
            ahead: parts.read_buf,
            io: parts.io.into_inner(),
            drain: self.drain,
            _permit: self.permit,
        })
    }
}

/// The connection ended, rather than that something else came than an answer.
fn broke_off(error: &hyper::Error) -> bool {
    let io = error
        .source()
        .is_some_and(|source| source.is::<std::io::Error>());
    io || error.is_incomplete_message()
}

/// The peer agreed to an upgrade, or to be a tunnel (RFC 9110 7.8, 9.3.6).
fn left_http<B>(response: &Response<B>, connect: bool) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        || (connect && response.status().is_success())
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
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // The driver reads only once the body has asked: ask, drive, look again.
        let mut frame = self.poll_once(cx);
        if frame.is_pending() && self.conn.as_ref().is_some_and(|conn| conn.driver.is_open()) {
            frame = self.poll_once(cx);
        }
        if matches!(frame, Poll::Ready(None)) || (frame.is_ready() && self.incoming.is_end_stream())
        {
            self.give_back(cx);
        }
        frame.map_err(BodyError::Http1)
    }

    fn poll_once(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(conn) = &mut self.conn {
            conn.drive(cx);
        }
        Pin::new(&mut self.incoming).poll_frame(cx)
    }

    /// Gives the connection back at once if the answer has no body.
    pub(crate) fn settle(&mut self, cx: &mut Context<'_>) {
        if self.incoming.is_end_stream() {
            self.give_back(cx);
        }
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
