//! The HTTP/2 client codec: one connection to a peer, shared by many requests.
//!
//! Owns: the connection's driver, counting its streams, sending one request and reading the head of its
//! answer, and knowing of a failed request whether anything of it can have reached the peer. Does not own:
//! which connection a request takes ([`crate::pool`]), whether it is sent again ([`crate::retry`]).

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{PingPong, Reason};
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode, Version};
use http_body::Body as HttpBody;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};
use weft_identity::SpiffeId;
use weft_proxy_config::Permit;
use weft_proxy_net::{Drain, Hop};

use crate::batched::{Batched, Flusher};
use crate::body::Body;
use crate::carried::{Carried, LongStreams};
use crate::counted::{Counted, Traffic};
use crate::head;
use crate::http2_server::{
    CONNECTION_WINDOW, HOP_HEADER_LIST, MAX_FRAME, MAX_STREAMS, STREAM_WINDOW,
};
use crate::pump::{Pump, PumpError};
use crate::sent::SendError;
use crate::tasks::{Bound, Tasks};

/// Overhead of small DATA frames that answers may bring: they carry many applications' streams.
const DATA_FRAME_BUDGET: usize = 64 << 20;
/// Resets by us that h2 remembers, so that what is still on its way to a reset stream is ignored.
const REMEMBERED_RESETS: usize = 4 * MAX_STREAMS as usize;
/// With requests under way and nothing heard for so long, the peer is asked for a sign of life…
const PING_AFTER: Duration = Duration::from_secs(10);
/// …and given so long for it.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A peer that was to ask for a body and has not is sent it after so long (RFC 9110 10.1.1: nobody waits for ever).
const GO_ON_AFTER: Duration = Duration::from_secs(10);

/// One connection. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Http2Conn(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Taken when no more requests may start: h2 then closes after the last stream.
    send: RefCell<Option<SendRequest<Bytes>>>,
    identity: Option<SpiffeId>,
    drain: Drain,
    streams: Cell<usize>,
    /// When the last stream ended.
    idle_since: Cell<Instant>,
    long: Rc<LongStreams>,
    /// Of a request since which nothing more was written, nothing can have arrived.
    traffic: Arc<Traffic>,
    /// Given back when it retires idle: what closes takes nobody's place.
    permit: RefCell<Option<Permit>>,
}

impl Http2Conn {
    /// Shakes hands on a fresh connection; its driver becomes one of `tasks`.
    pub(crate) async fn open(
        hop: Hop,
        permit: Option<Permit>,
        tasks: &Tasks,
    ) -> Result<Self, h2::Error> {
        let (io, traffic) = Counted::new(hop.io);
        let (io, flusher) = Batched::new(io);
        let (send, mut connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .initial_max_send_streams(expected_streams(hop.identity.as_ref()))
            .max_header_list_size(HOP_HEADER_LIST)
            .max_send_buffer_size(STREAM_WINDOW as usize)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .max_local_error_reset_streams(None)
            .data_frame_budget(DATA_FRAME_BUDGET)
            .enable_push(false)
            .handshake::<_, Bytes>(io)
            .await?;
        let pings = connection.ping_pong();
        let shared = Rc::new(Shared {
            send: RefCell::new(Some(send)),
            identity: hop.identity,
            drain: hop.drain,
            streams: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            long: Rc::default(),
            traffic,
            permit: RefCell::new(permit),
        });
        tasks.spawn(drive(connection, flusher, pings, shared.clone()));
        Ok(Self(shared))
    }

    /// Takes requests: open, not told to go, with less than `streams` and than the peer's limit under way.
    pub(crate) fn has_room(&self, streams: usize) -> bool {
        let limit = match &*self.0.send.borrow() {
            Some(send) => send.current_max_send_streams().min(streams),
            None => return false,
        };
        self.0.streams.get() < limit
    }

    /// Carries a stream that others had better not be behind.
    pub(crate) fn is_held_up(&self) -> bool {
        self.0.long.any()
    }

    /// Takes no more requests, ever.
    pub(crate) fn is_retired(&self) -> bool {
        self.0.send.borrow().is_none()
    }

    /// Lets what is under way finish, then closes.
    pub(crate) fn retire(&self) {
        self.0.send.borrow_mut().take();
        if self.0.streams.get() == 0 {
            self.0.permit.borrow_mut().take();
        }
    }

    /// Nothing is under way on it, and its place is one of these.
    pub(crate) fn rests_in(&self, these: impl FnOnce(&Permit) -> bool) -> bool {
        self.0.streams.get() == 0 && self.0.permit.borrow().as_ref().is_some_and(these)
    }

    pub(crate) fn identity(&self) -> Option<&SpiffeId> {
        self.0.identity.as_ref()
    }

    /// Since when nothing is under way; `None` while something is.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        (self.0.streams.get() == 0).then(|| self.0.idle_since.get())
    }

    #[cfg(test)]
    pub(crate) fn streams(&self) -> usize {
        self.0.streams.get()
    }

    /// Sends the request that is in `outgoing` and waits for the head of its answer, writing the body meanwhile. What
    /// is left of the body then goes on by itself, for as long as the answer is read.
    pub(crate) async fn send(
        &self,
        outgoing: &mut Option<Request<Body>>,
    ) -> Result<Response<Body>, SendError> {
        let Some((mut head, body)) = outgoing.take().map(take_body) else {
            return Err(SendError::Reset);
        };
        let end = body.is_end_stream();
        let expects = !end && head::expects(head.headers());
        if head.version() == Version::HTTP_2 && head.uri().scheme().is_none() {
            // h2 wants a scheme with HTTP/2, but forwards what came over HTTP/1 as it is.
            *head.version_mut() = Version::HTTP_11;
        }
        if let Some(length) = body.size_hint().exact().filter(|length| *length > 0)
            && !head.headers().contains_key(CONTENT_LENGTH)
        {
            head.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        let written = self.0.traffic.written();
        // A handle of its own: h2 refuses a second request from one whose first still waits for its stream.
        let Some(mut send) = self.0.send.borrow().clone() else {
            *outgoing = Some(head.map(|()| body));
            return Err(SendError::Undelivered);
        };
        let (response, stream) = match send.send_request(head, end) {
            Ok(sent) => sent,
            Err(error) if error.is_io() || error.is_go_away() => {
                self.retire();
                return Err(SendError::Undelivered);
            }
            Err(error) => {
                tracing::debug!(%error, "a request that HTTP/2 cannot carry");
                return Err(SendError::Unsendable);
            }
        };
        drop(send);
        let open = OpenStream::new(self.0.clone());
        let mut pump = (!end).then(|| Pump::new(body, stream).counted(Carried::new(&self.0.long)));
        let mut expecting = expects.then(|| Box::pin(tokio::time::sleep(GO_ON_AFTER)));
        let mut response = response;
        let answered = poll_fn(|cx| {
            if let Some(waiting) = &mut expecting
                && (goes_on(&mut response, cx) || waiting.as_mut().poll(cx).is_ready())
            {
                expecting = None;
            }
            if expecting.is_none()
                && let Some(pumping) = &mut pump
                && let Poll::Ready(pumped) = pumping.poll(cx)
            {
                pump = None;
                if let Err(PumpError::Source) = pumped {
                    return Poll::Ready(Err(SendError::ClientGone));
                }
                // A peer that takes no more has said why in its answer, or will.
            }
            Pin::new(&mut response)
                .poll(cx)
                .map_err(|error| self.classify(&error, written))
        })
        .await?;
        // Who answers without asking for the body does not want it.
        let upload = pump.filter(|_| expecting.is_none()).map(|mut pump| {
            Bound::spawn(async move {
                // Either the peer has had enough, or the client is gone, whose own stream says so.
                let _ = poll_fn(|cx| pump.poll(cx)).await;
            })
        });
        let guard = StreamGuard { upload, open };
        Ok(answered.map(|stream| Body::http2_guarded(stream, guard)))
    }

    /// Can anything of the request have reached the peer's application?
    fn classify(&self, error: &h2::Error, written_before: u64) -> SendError {
        let refused = error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
        // h2 ends only those streams with the peer's GOAWAY that are beyond its last stream.
        let beyond_goodbye = error.is_remote() && error.is_go_away();
        if beyond_goodbye {
            self.retire();
        }
        let nothing_written = self.0.traffic.written() == written_before;
        if refused {
            SendError::Refused
        } else if beyond_goodbye || nothing_written {
            SendError::Undelivered
        } else {
            SendError::Reset
        }
    }
}

/// The peer has said that it wants the body.
fn goes_on(response: &mut ResponseFuture, cx: &mut Context<'_>) -> bool {
    loop {
        match response.poll_informational(cx) {
            Poll::Ready(Some(Ok(interim))) if interim.status() == StatusCode::CONTINUE => {
                return true;
            }
            Poll::Ready(Some(Ok(_))) => {}
            // The answer itself says what there is to say.
            Poll::Ready(_) | Poll::Pending => return false,
        }
    }
}

/// Streams that the peer will take, until it has said so: our own proxies say what we say, others at least what the
/// specification recommends (RFC 9113 6.5.2).
fn expected_streams(identity: Option<&SpiffeId>) -> usize {
    match identity {
        Some(_) => MAX_STREAMS as usize,
        None => 100,
    }
}

fn take_body(request: Request<Body>) -> (Request<()>, Body) {
    let (parts, body) = request.into_parts();
    (Request::from_parts(parts, ()), body)
}

/// One stream that counts against its connection's limit.
#[derive(Debug)]
pub(crate) struct OpenStream {
    shared: Rc<Shared>,
    /// Bytes of the answer so far.
    down: u64,
}

impl OpenStream {
    fn new(shared: Rc<Shared>) -> Self {
        shared.streams.set(shared.streams.get() + 1);
        Self { shared, down: 0 }
    }

    /// So many bytes more of the answer.
    pub(crate) fn more(&mut self, bytes: usize) {
        let before = self.down;
        self.down += bytes as u64;
        self.shared.long.went_on(before, self.down);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.shared.long.ended(self.down);
        self.shared.streams.set(self.shared.streams.get() - 1);
        self.shared.idle_since.set(Instant::now());
    }
}

/// What lives as long as the answer is read: the stream's place and the rest of the upload.
#[derive(Debug)]
pub(crate) struct StreamGuard {
    upload: Option<Bound>,
    pub(crate) open: OpenStream,
}

impl StreamGuard {
    pub(crate) fn is_uploading(&self) -> bool {
        self.upload
            .as_ref()
            .is_some_and(|upload| !upload.is_finished())
    }
}

/// Drives the connection: reads and writes frames, says goodbye in time, notices a dead peer.
async fn drive<Io>(
    connection: h2::client::Connection<Batched<Io>, Bytes>,
    flusher: Flusher<Io>,
    pings: Option<PingPong>,
    shared: Rc<Shared>,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = pin!(connection);
    let mut draining = pin!(shared.drain.draining());
    let mut ended = pin!(shared.drain.ended());
    let mut life = pin!(Life::new(pings, shared.clone()));
    let outcome = poll_fn(|cx| {
        if !shared.send.borrow().is_none() && draining.as_mut().poll(cx).is_ready() {
            shared.send.borrow_mut().take();
        }
        if ended.as_mut().poll(cx).is_ready() || life.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let polled = connection.as_mut().poll(cx);
        if polled.is_pending() {
            flusher.poll_flush(cx);
        }
        polled
    })
    .await;
    if let Err(error) = outcome {
        tracing::debug!(%error, "an HTTP/2 connection ended");
    }
    shared.send.borrow_mut().take();
}

/// Ready when a peer that should say something has been silent for too long.
struct Life {
    pings: Option<PingPong>,
    shared: Rc<Shared>,
    timer: Pin<Box<Sleep>>,
    heard: u64,
    asked: bool,
}

impl Life {
    fn new(pings: Option<PingPong>, shared: Rc<Shared>) -> Self {
        Self {
            pings,
            shared,
            timer: Box::pin(tokio::time::sleep(PING_AFTER)),
            heard: 0,
            asked: false,
        }
    }
}

impl Future for Life {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(pings) = &mut this.pings else {
            return Poll::Pending;
        };
        if this.asked && pings.poll_pong(cx).is_ready() {
            this.asked = false;
        }
        while this.timer.as_mut().poll(cx).is_ready() {
            let read = this.shared.traffic.read();
            let silent = read == this.heard && this.shared.streams.get() > 0;
            this.heard = read;
            if !silent {
                this.timer.as_mut().reset(Instant::now() + PING_AFTER);
            } else if this.asked {
                return Poll::Ready(());
            } else {
                this.asked = pings.send_ping(h2::Ping::opaque()).is_ok();
                this.timer.as_mut().reset(Instant::now() + PING_TIMEOUT);
            }
        }
        Poll::Pending
    }
}
