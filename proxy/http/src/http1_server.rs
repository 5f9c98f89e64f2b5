//! The HTTP/1 server codec: hyper reads requests and writes answers, the request path is asked for each.
//!
//! What is no request is answered here, before the request path: malformed heads with 400, oversized ones with
//! 431. A request with both `Content-Length` and `Transfer-Encoding` is read as chunked, loses the length and ends
//! its connection (RFC 9112 6.3), so that nobody behind can read it otherwise.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::sleep;
use weft_proxy_net::{Drain, Io};

use crate::body::{Body, BodyError};
use crate::head::UNDELIVERED;
use crate::http2_server::Answer;

/// The largest head taken.
const MAX_HEAD: usize = 64 * 1024;
/// The most headers taken.
const MAX_HEADERS: usize = 200;
/// From the first byte of a head to its last.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
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
    B: HttpBody<Data = Bytes, Error = BodyError> + From<Body> + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let answering = answer(request.map(Body::http1));
        async {
            let mut response = match answering.await {
                Answer::Response(response) => response,
                Answer::Undelivered => undelivered(),
                Answer::Reset(_) => return Err(Abandoned),
            };
            if drain.is_draining() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
    });
    let mut connection = pin!(
        Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades()
    );
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
        connection.as_mut().poll(cx)
    })
    .await
}

/// The HTTP/1.1 form of REFUSED_STREAM, believed by proxies because the hop is authenticated.
fn undelivered<B: From<Body>>() -> Response<B> {
    let mut response = Response::new(B::from(Body::empty()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(UNDELIVERED, HeaderValue::from_static("1"));
    response
}
