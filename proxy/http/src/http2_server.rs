//! The HTTP/2 server codec: reads requests from a connection, has each answered by the request path and
//! writes the answers. Knows frames, windows and resets; knows nothing of routes or policies.
//!
//! All streams of a connection run in its one task: what one wake-up brings is answered and flushed in one
//! write, and when the connection goes everything on it is dropped, which is how a cancelled request ends.
//!
//! Two sets of limits: an [`Edge`](Side::Edge) faces a client that may mean harm, a [`Hop`](Side::Hop) faces another
//! proxy of the mesh, which has limited its own clients already and carries many of them at once.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, Stream};
use h2::Reason;
use h2::server::{Builder, SendResponse};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use weft_proxy_net::Drain;

use crate::batched::Batched;
use crate::body::{Body, BodyError, Wanted};
use crate::head;
use crate::own_wakes::OwnWakes;
use crate::pump::{Pump, PumpError};

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// An application or a client outside the mesh.
    Edge,
    /// Another proxy of the mesh.
    Hop,
}

/// What the request path gives back for a request.
#[derive(Debug)]
pub(crate) enum Answer<B> {
    /// This answer.
    Response(Response<B>),
    /// Nothing of the request was delivered: the peer may send it elsewhere (RFC 9113 8.7).
    Undelivered,
    /// The exchange ended without an answer that could be sent.
    Reset(Reason),
}

/// Bytes of one stream that may be on their way unread.
pub(crate) const STREAM_WINDOW: u32 = 128 * 1024;
/// Streams at a time on one connection.
pub(crate) const MAX_STREAMS: u32 = 256;
/// A reader that stalls holds back its own stream and no other.
pub(crate) const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;
/// Bytes of one DATA frame: each costs a frame header and, between proxies, the start of a TLS record.
pub(crate) const MAX_FRAME: u32 = 64 * 1024;
/// The largest header list read from a client: twice what the request path takes, so that what is a little too large is
/// refused there, with a record. Beyond this h2 answers 431 by itself.
const EDGE_HEADER_LIST: u32 = 128 * 1024;
/// On a hop every head fits that an edge has taken, or an application has answered.
pub(crate) const HOP_HEADER_LIST: u32 = 512 * 1024;
/// How long a client may take for its preface.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that one client may open and reset before they were looked at.
const EDGE_PENDING_RESETS: usize = 64;
/// Resets that a client may send at once…
const EDGE_RESETS: f64 = 1000.0;
/// …and per second.
const EDGE_RESETS_PER_SECOND: f64 = 100.0;
/// On a hop all the streams of a connection may be reset at once, several times over, by clients that leave.
const HOP_PENDING_RESETS: usize = 4 * MAX_STREAMS as usize;
/// Overhead of small DATA frames: a hop carries everybody's chatty streams.
const HOP_DATA_FRAME_BUDGET: usize = 64 << 20;

impl Side {
    fn builder(self) -> Builder {
        let mut builder = Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buffer_size(STREAM_WINDOW as usize);
        match self {
            Self::Edge => builder
                .max_header_list_size(EDGE_HEADER_LIST)
                .max_pending_accept_reset_streams(EDGE_PENDING_RESETS),
            Self::Hop => builder
                .max_header_list_size(HOP_HEADER_LIST)
                .max_pending_accept_reset_streams(HOP_PENDING_RESETS)
                .max_concurrent_reset_streams(HOP_PENDING_RESETS)
                .max_local_error_reset_streams(None)
                .data_frame_budget(HOP_DATA_FRAME_BUDGET),
        };
        builder
    }
}

/// Serves one connection until it closes. `answer` is called once per request.
///
/// Goodbye (GOAWAY) is said when `drain` says so, but never before the connection has carried a request:
/// whoever connects to a leaving pod has not heard yet that it leaves.
pub(crate) async fn serve<Io, F, Fut, B>(
    io: Io,
    side: Side,
    drain: &Drain,
    answer: F,
) -> Result<(), h2::Error>
where
    Io: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Request<Body>) -> Fut,
    Fut: Future<Output = Answer<B>>,
    B: HttpBody<Data = Bytes, Error = BodyError> + Unpin,
{
    let (io, flusher) = Batched::new(io);
    let Ok(handshake) = timeout(PREFACE_TIMEOUT, side.builder().handshake::<_, Bytes>(io)).await
    else {
        return Ok(());
    };
    let mut connection = handshake?;
    let mut streams = FuturesUnordered::new();
    let mut goodbye = pin!(drain.draining());
    let mut said = false;
    let mut carried = false;
    let mut resets = Resets::new();
    let own_wakes = OwnWakes::new();
    let mut turn = |cx: &mut Context<'_>| {
        loop {
            while let Poll::Ready(Some(ended)) = Pin::new(&mut streams).poll_next(cx) {
                // On a hop they are many clients' resets, each limited where it entered the mesh.
                if ended == Ended::ResetByPeer && side == Side::Edge && !resets.admit() {
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                }
            }
            // Reads what has come and, once there is nothing more, writes.
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    carried = true;
                    let (parts, body) = request.into_parts();
                    let awaited = !body.is_end_stream() && head::expects(&parts.headers);
                    let wanted = awaited.then(Rc::<Wanted>::default);
                    let body = match &wanted {
                        Some(wanted) => Body::http2_awaited(body, wanted.clone()),
                        None => Body::http2(body),
                    };
                    let request = Request::from_parts(parts, body);
                    streams.push(stream(answer(request), wanted, respond));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        if carried && !said && goodbye.as_mut().poll(cx).is_ready() {
            said = true;
            connection.graceful_shutdown();
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    };
    poll_fn(|cx| {
        let served = own_wakes.turns(cx, &mut turn);
        if served.is_pending() {
            flusher.poll_flush(cx);
        }
        served
    })
    .await
}

/// One stream: waits for the answer, or for the client to reset it, and writes the answer. A client that waits with its
/// body is told once somebody wants it.
async fn stream<Fut, B>(
    answer: Fut,
    wanted: Option<Rc<Wanted>>,
    mut respond: SendResponse<Bytes>,
) -> Ended
where
    Fut: Future<Output = Answer<B>>,
    B: HttpBody<Data = Bytes, Error = BodyError> + Unpin,
{
    let answer = {
        let mut answer = pin!(answer);
        let ended = poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            if wanted.as_ref().is_some_and(|wanted| wanted.take()) {
                go_on(&mut respond);
            }
            respond.poll_reset(cx).map(|_| None)
        });
        match ended.await {
            Some(answer) => answer,
            None => return Ended::ResetByPeer,
        }
    };
    let response = match answer {
        Answer::Response(response) => response,
        Answer::Undelivered => return reset(respond, Reason::REFUSED_STREAM),
        Answer::Reset(reason) => return reset(respond, reason),
    };
    let (mut parts, body) = response.into_parts();
    head::strip_for_http2(&mut parts.headers);
    let end = body.is_end_stream();
    complete(&mut parts.headers, &body);
    let Ok(sender) = respond.send_response(Response::from_parts(parts, ()), end) else {
        return reset(respond, Reason::INTERNAL_ERROR);
    };
    if end {
        return Ended::Served;
    }
    let mut pump = Pump::new(body, sender);
    match poll_fn(|cx| pump.poll(cx)).await {
        Err(PumpError::Peer) => Ended::ResetByPeer,
        Ok(()) | Err(PumpError::Source) => Ended::Served,
    }
}

/// 100 (RFC 9110 15.2.1). A stream that is gone already says so where it is polled.
fn go_on(respond: &mut SendResponse<Bytes>) {
    let mut interim = Response::new(());
    *interim.status_mut() = StatusCode::CONTINUE;
    let _ = respond.send_informational(interim);
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Served,
    ResetByPeer,
}

fn reset(mut respond: SendResponse<Bytes>, reason: Reason) -> Ended {
    respond.send_reset(reason);
    Ended::Served
}

/// How many resets one client may still send: opening and resetting streams costs it nothing and us a request each
/// (CVE-2023-44487).
struct Resets {
    left: f64,
    at: Instant,
}

impl Resets {
    fn new() -> Self {
        Self {
            left: EDGE_RESETS,
            at: Instant::now(),
        }
    }

    fn admit(&mut self) -> bool {
        let now = Instant::now();
        let regained = now.duration_since(self.at).as_secs_f64() * EDGE_RESETS_PER_SECOND;
        self.at = now;
        self.left = (self.left + regained).min(EDGE_RESETS) - 1.0;
        self.left >= 0.0
    }
}

fn complete(headers: &mut HeaderMap, body: &impl HttpBody) {
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0)
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    // RFC 9110 6.6.1: an answer without a date gets one from the first recipient with a clock.
    if !headers.contains_key(DATE) {
        headers.insert(DATE, head::date());
    }
}
