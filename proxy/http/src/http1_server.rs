//! The HTTP/1 server codec: hyper reads requests and writes answers, the request path is asked for each.
//!
//! What is no request is answered here, before the request path: malformed heads with 400, oversized ones with
//! 431; its record is made by [`crate::unreadable`] of the error with which the connection ends. A request with both `Content-Length` and `Transfer-Encoding` is read as chunked, loses the length and ends
//! its connection (RFC 9112 6.3), so that nobody behind can read it otherwise.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::task::yield_now;
use tokio::time::sleep;
use weft_proxy_net::{Drain, Io};

use crate::body::{Body, BodyError};
use crate::counted::{Counted, Traffic};
use crate::head::UNDELIVERED;
use crate::http2_server::Answer;

/// The largest head taken.
const MAX_HEAD: usize = 64 * 1024;
/// How often a connection is looked at that has no exchange under way.
const WATCH: Duration = Duration::from_secs(10);
/// Looks that a head may take from its first byte to its last.
const HEAD_LOOKS: u32 = 3;
/// Looks without a byte after which nobody is expected to say anything any more: an hour.
const IDLE_LOOKS: u32 = 360;
/// How long a kept-alive connection may rest once goodbye was said.
const GOODBYE: Duration = Duration::from_secs(5);

/// The exchange ended without an answer: the connection is all there is to end.
#[derive(Debug, thiserror::Error)]
#[error("the exchange ended without an answer")]
struct Abandoned;

/// Serves one connection until it closes. `answer` is called once per request.
///
/// Goodbye is said with `Connection: close` on the next answer once `drain` says so, never by closing under a
/// request that may be on its way; only what rests too long after that is closed.
pub(crate) async fn serve<F, Fut, B>(io: Io, drain: &Drain, answer: F) -> hyper::Result<()>
where
    F: Fn(Request<Body>) -> Fut,
    Fut: Future<Output = Answer<B>>,
    B: HttpBody<Data = Bytes, Error = BodyError> + From<Body> + Unpin + 'static,
{
    let exchanges = Rc::new(Exchanges::default());
    let service = service_fn(|request: Request<Incoming>| {
        let under_way = UnderWay::begin(&exchanges);
        let answering = answer(request.map(Body::http1));
        async {
            let mut response = match answering.await {
                Answer::Response(response) => response,
                Answer::Undelivered => undelivered(),
                Answer::Reset(_) => return Err(Abandoned),
            };
            if drain.is_draining() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| Answering {
                body,
                _under_way: under_way,
            }))
        }
    });
    let (io, traffic) = Counted::new(io);
    let mut connection = pin!(
        Builder::new()
            // Its own timer is set anew for each request and does not tell a dribble from a rest.
            .header_read_timeout(None)
            // At most a hundred headers: hyper's default, and what it parses without allocating.
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades()
    );
    let mut watch = pin!(watch(&exchanges, &traffic));
    let mut goodbye = pin!(async {
        drain.draining().await;
        sleep(GOODBYE).await;
    });
    let mut said = false;
    poll_fn(|cx| {
        if !said && goodbye.as_mut().poll(cx).is_ready() {
            said = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        watch.as_mut().poll(cx).map(Ok)
    })
    .await
}

/// The exchanges of one connection.
#[derive(Debug, Default)]
struct Exchanges {
    begun: Cell<u64>,
    under_way: Cell<u32>,
}

/// Returns when the connection has dribbled or rested for too long. One timer per connection, not one per request.
///
/// An exchange under way may take any time: a long poll is not ended for its silence. But where its body has no reader,
/// the connection is not read either, and that the client is gone must be asked for.
async fn watch(exchanges: &Exchanges, traffic: &Traffic) {
    let (mut begun, mut read, mut dribbling, mut resting) = (0, 0, 0, 0);
    let mut moved = (0, 0);
    while dribbling < HEAD_LOOKS && resting < IDLE_LOOKS {
        sleep(WATCH).await;
        let before = std::mem::replace(&mut moved, (traffic.read(), traffic.written()));
        if exchanges.under_way.get() > 0 || exchanges.begun.get() != begun {
            (begun, read, dribbling, resting) = (exchanges.begun.get(), moved.0, 0, 0);
            if before == moved {
                traffic.suspect();
                // The connection has had its turn: another.
                yield_now().await;
            }
        } else if moved.0 != read {
            dribbling += 1;
        } else {
            resting += 1;
        }
    }
}

/// One exchange, from its head to the end of its answer.
#[derive(Debug)]
struct UnderWay(Rc<Exchanges>);

impl UnderWay {
    fn begin(exchanges: &Rc<Exchanges>) -> Self {
        exchanges.begun.set(exchanges.begun.get() + 1);
        exchanges.under_way.set(exchanges.under_way.get() + 1);
        Self(exchanges.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
    }
}

/// The body of an answer while its exchange is under way.
struct Answering<B> {
    body: B,
    _under_way: UnderWay,
}

impl<B> HttpBody for Answering<B>
where
    B: HttpBody<Data = Bytes, Error = BodyError> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The HTTP/1.1 form of REFUSED_STREAM, believed by proxies because the hop is authenticated.
fn undelivered<B: From<Body>>() -> Response<B> {
    let mut response = Response::new(B::from(Body::empty()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
        .headers_mut()
        .insert(UNDELIVERED, HeaderValue::from_static("1"));
    response
}
