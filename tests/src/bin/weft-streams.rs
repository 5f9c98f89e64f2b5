//! An application whose requests and answers last: bodies without an end, trailers, upgrades, gRPC,
//! and counters of what reached it. HTTP/1.1 and HTTP/2, on the port that is its one argument.
//!
//! `/hold` begins a body and never goes on; `/endless` never ends one; `/bytes/N` sends N bytes;
//! `/upload` reads everything and says what it was; `/unread` answers 403 and reads nothing;
//! `/trailers` ends with a trailer; `/upgrade` becomes an echo of bytes; `/delay/MS` waits;
//! `/fail/N/KEY` answers 503 to the first N requests of this path; `/cut` closes the connection
//! instead of answering; `/break` and `/mend` turn all of `/work` into 503 and back; `/stats` tells
//! what has been seen. `/weft.test.Echo/{Unary,Stream,Refuse}` is gRPC.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, TRAILER, UPGRADE};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

type Fault = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How much is sent at once.
const CHUNK: u64 = 64 * 1024;
/// Messages of a streaming call.
const MESSAGES: u64 = 5;

#[derive(Default)]
struct App {
    /// Requests by path.
    requests: Mutex<BTreeMap<String, u64>>,
    /// Answers that have begun and not ended.
    open: AtomicU64,
    /// Answers that were given up by the peer.
    abandoned: AtomicU64,
    /// Bytes of bodies that came in.
    received: AtomicU64,
    /// Uploads that had no end.
    cut_uploads: AtomicU64,
    broken: AtomicBool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let port = std::env::args().nth(1).ok_or("the port is missing")?;
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port.parse::<u16>()?));
    let listener = TcpListener::bind(address).await?;
    let app = Arc::new(App::default());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(connection(stream, app.clone()));
    }
}

async fn connection(stream: TcpStream, app: Arc<App>) -> Result<(), Fault> {
    let mut start = [0; 3];
    // Enough to tell an HTTP/2 preface from a method.
    while stream.peek(&mut start).await? < start.len() {
        stream.readable().await?;
        if stream.peek(&mut start).await? == 0 {
            return Ok(());
        }
    }
    let service = service_fn(move |request| answer(request, app.clone()));
    let io = TokioIo::new(stream);
    if &start == b"PRI" {
        let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        server.max_concurrent_streams(2048);
        server.serve_connection(io, service).await?;
    } else {
        let server = hyper::server::conn::http1::Builder::new();
        server.serve_connection(io, service).with_upgrades().await?;
    }
    Ok(())
}

/// An answer that is under way.
struct Open {
    app: Arc<App>,
    ended: bool,
}

impl Open {
    fn new(app: &Arc<App>) -> Self {
        app.open.fetch_add(1, Ordering::Relaxed);
        Self {
            app: app.clone(),
            ended: false,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.app.open.fetch_sub(1, Ordering::Relaxed);
        if !self.ended {
            self.app.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn answer(mut request: Request<Incoming>, app: Arc<App>) -> Result<Response<Body>, Fault> {
    let path = request.uri().path().to_owned();
    let number = {
        let mut requests = app.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let count = requests.entry(path.clone()).or_default();
        *count += 1;
        *count
    };
    let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let argument: u64 = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    Ok(match words[0] {
        "hold" => Response::new(held(&app)),
        "endless" => Response::new(chunks(&app, u64::MAX)),
        "bytes" => Response::new(chunks(&app, argument)),
        "upload" => Response::new(text(&upload(request.into_body(), &app).await?)),
        "unread" => status(StatusCode::FORBIDDEN),
        "trailers" => {
            let body = with_trailers(vec![Bytes::from("body\n")], &[("x-sum", "42")]);
            let mut response = Response::new(body);
            response.headers_mut().insert(TRAILER, "x-sum".parse()?);
            response
        }
        "upgrade" => {
            let upgrading = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrading.await?);
                let (mut read, mut write) = tokio::io::split(&mut io);
                tokio::io::copy(&mut read, &mut write).await?;
                Ok::<_, Fault>(())
            });
            let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
            let headers = response.headers_mut();
            headers.insert(CONNECTION, "upgrade".parse()?);
            headers.insert(UPGRADE, "echo".parse()?);
            response
        }
        "delay" => {
            tokio::time::sleep(Duration::from_millis(argument)).await;
            status(StatusCode::OK)
        }
        "fail" if number <= argument => status(StatusCode::SERVICE_UNAVAILABLE),
        "cut" => return Err("asked to".into()),
        "break" | "mend" => {
            app.broken.store(words[0] == "break", Ordering::Relaxed);
            status(StatusCode::OK)
        }
        "work" if app.broken.load(Ordering::Relaxed) => status(StatusCode::SERVICE_UNAVAILABLE),
        "stats" => Response::new(text(&stats(&app))),
        "weft.test.Echo" => grpc(words.get(1).copied().unwrap_or_default(), request).await?,
        _ => status(StatusCode::OK),
    })
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = status;
    response
}

fn text(value: &Value) -> Body {
    Full::from(value.to_string() + "\n").boxed_unsync()
}

fn stats(app: &App) -> Value {
    let requests = app.requests.lock().unwrap_or_else(PoisonError::into_inner);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    json!({
        "requests": *requests,
        "open": count(&app.open),
        "abandoned": count(&app.abandoned),
        "received": count(&app.received),
        "cutUploads": count(&app.cut_uploads),
    })
}

fn held(app: &Arc<App>) -> Body {
    let parts = stream::unfold((Open::new(app), true), async |(open, first)| {
        if !first {
            std::future::pending::<()>().await;
        }
        Some((Ok(Frame::data(Bytes::from("begun\n"))), (open, false)))
    });
    BodyExt::boxed_unsync(StreamBody::new(Box::pin(parts)))
}

fn chunks(app: &Arc<App>, length: u64) -> Body {
    let chunk = Bytes::from(vec![b'x'; usize::try_from(CHUNK).unwrap_or_default()]);
    let parts = stream::unfold((Open::new(app), length), move |(mut open, left)| {
        let now = left.min(CHUNK);
        let part = chunk.slice(..usize::try_from(now).unwrap_or_default());
        open.ended = left == 0;
        // Others get their turn, however fast the peer reads.
        async move {
            tokio::task::yield_now().await;
            (now > 0).then(|| (Ok(Frame::data(part)), (open, left - now)))
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(Box::pin(parts)))
}

fn with_trailers(parts: Vec<Bytes>, trailers: &[(&'static str, &'static str)]) -> Body {
    let mut map = HeaderMap::new();
    for (name, value) in trailers {
        map.insert(*name, http::HeaderValue::from_static(value));
    }
    let mut frames: Vec<_> = parts.into_iter().map(Frame::data).collect();
    frames.push(Frame::trailers(map));
    let frames = stream::iter(frames.into_iter().map(Ok));
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

/// A body that is being read.
struct Upload<'a> {
    app: &'a App,
    ended: bool,
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.app.cut_uploads.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn upload(mut body: Incoming, app: &App) -> Result<Value, Fault> {
    let mut upload = Upload { app, ended: false };
    let (mut length, mut trailers) = (0, BTreeMap::new());
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        if let Some(data) = frame.data_ref() {
            length += data.len();
            let length = u64::try_from(data.len())?;
            app.received.fetch_add(length, Ordering::Relaxed);
        } else if let Some(map) = frame.trailers_ref() {
            for (name, value) in map {
                trailers.insert(name.to_string(), value.to_str()?.to_owned());
            }
        }
    }
    upload.ended = true;
    Ok(json!({"length": length, "trailers": trailers}))
}

/// `Unary` gives the message back, `Stream` gives it back [`MESSAGES`] times, `Refuse` sends
/// trailers alone.
async fn grpc(method: &str, request: Request<Incoming>) -> Result<Response<Body>, Fault> {
    let message = request.into_body().collect().await?.to_bytes();
    let done = [("grpc-status", "0"), ("x-sum", "42")];
    let mut response = match method {
        "Unary" => Response::new(with_trailers(vec![message], &done)),
        "Stream" => {
            let messages = (0..MESSAGES).map(|number| numbered(&message, number));
            Response::new(with_trailers(messages.collect(), &done))
        }
        other => {
            let mut response = status(StatusCode::OK);
            let (code, text) = if other == "Refuse" {
                ("5", "nothing here")
            } else {
                ("12", "no such method")
            };
            response.headers_mut().insert("grpc-status", code.parse()?);
            response.headers_mut().insert("grpc-message", text.parse()?);
            response
        }
    };
    let content = "application/grpc".parse()?;
    response.headers_mut().insert(CONTENT_TYPE, content);
    Ok(response)
}

/// A gRPC message with a digit after what it was.
fn numbered(message: &Bytes, number: u64) -> Bytes {
    let content = message.get(5..).unwrap_or_default();
    let digit = number.to_string();
    let length = u32::try_from(content.len() + digit.len()).unwrap_or(0);
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(length);
    framed.put_slice(content);
    framed.put_slice(digit.as_bytes());
    framed.freeze()
}
