//! The application of the end-to-end tests: answers HTTP/1.1 and HTTP/2 with what it saw, as JSON;
//! on other ports it echoes bytes, with or without speaking first.
//!
//! `weft-echo [--http PORT] [--echo PORT] [--greet PORT]`; `POD` and `VERSION` come from the
//! environment. Paths: `/status/N` answers N, `/delay/MS` waits, `/bytes/N` sends N bytes, `/flaky/N`
//! refuses all but every Nth request with 503. gRPC's health service says SERVING.

use std::convert::Infallible;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// As gRPC probes ask.
const HEALTH: &str = "/grpc.health.v1.Health/Check";

struct Echo {
    pod: String,
    version: String,
    requests: AtomicU64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let echo = Arc::new(Echo {
        pod: variable("POD"),
        version: variable("VERSION"),
        requests: AtomicU64::new(0),
    });
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut servers = tokio::task::JoinSet::new();
    for pair in words.chunks(2) {
        let [flag, port] = pair else {
            return Err("a flag has no port".into());
        };
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port.parse::<u16>()?));
        let listener = TcpListener::bind(address).await?;
        servers.spawn(serve(listener, flag.clone(), echo.clone()));
    }
    match servers.join_next().await {
        Some(result) => result?,
        None => Err("nothing to serve".into()),
    }
}

async fn serve(listener: TcpListener, flag: String, echo: Arc<Echo>) -> Result<(), Fault> {
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let echo = echo.clone();
        match flag.as_str() {
            "--http" => drop(tokio::spawn(http(stream, peer, echo))),
            "--echo" => drop(tokio::spawn(bytes(stream, None))),
            "--greet" => drop(tokio::spawn(bytes(stream, Some(echo)))),
            other => return Err(format!("unknown flag {other}").into()),
        }
    }
}

async fn bytes(mut stream: TcpStream, greet: Option<Arc<Echo>>) -> std::io::Result<()> {
    if let Some(echo) = greet {
        stream
            .write_all(format!("220 {} ready\r\n", echo.pod).as_bytes())
            .await?;
    }
    let (mut read, mut write) = stream.split();
    tokio::io::copy(&mut read, &mut write).await?;
    write.shutdown().await
}

async fn http(stream: TcpStream, peer: SocketAddr, echo: Arc<Echo>) -> Result<(), Fault> {
    let mut start = [0; 3];
    // Enough to tell an HTTP/2 preface from a method.
    while stream.peek(&mut start).await? < start.len() {
        stream.readable().await?;
        if stream.peek(&mut start).await? == 0 {
            return Ok(());
        }
    }
    let service = service_fn(move |request| {
        let echo = echo.clone();
        async move {
            Ok::<_, Infallible>(match request.uri().path() {
                HEALTH => serving(),
                _ => answer(request, peer, &echo).await.map(Full::boxed),
            })
        }
    });
    let io = TokioIo::new(stream);
    if &start == b"PRI" {
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        server.serve_connection(io, service).await?;
    } else {
        let server = hyper::server::conn::http1::Builder::new();
        server.serve_connection(io, service).with_upgrades().await?;
    }
    Ok(())
}

/// One message, `status: SERVING`.
fn serving() -> Response<BoxBody<Bytes, Infallible>> {
    let message = Full::from(&[0, 0, 0, 0, 2, 0x08, 1][..]);
    let mut ok = HeaderMap::new();
    ok.insert("grpc-status", HeaderValue::from_static("0"));
    let body = message
        .with_trailers(std::future::ready(Some(Ok(ok))))
        .boxed();
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    echo: &Echo,
) -> Response<Full<Bytes>> {
    let number = echo.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let (head, mut body) = request.into_parts();
    let mut received = 0;
    while let Some(Ok(frame)) = body.frame().await {
        received += frame.data_ref().map_or(0, Bytes::len);
    }
    let mut parts = head.uri.path().trim_start_matches('/').splitn(3, '/');
    let verb = parts.next().unwrap_or_default();
    let argument: u64 = parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut status = StatusCode::OK;
    match verb {
        "status" => {
            status = u16::try_from(argument)
                .ok()
                .and_then(|code| StatusCode::from_u16(code).ok())
                .unwrap_or(StatusCode::BAD_REQUEST)
        }
        "delay" => tokio::time::sleep(Duration::from_millis(argument)).await,
        "flaky" if !number.is_multiple_of(argument.max(1)) => {
            status = StatusCode::SERVICE_UNAVAILABLE
        }
        "bytes" => {
            let length = usize::try_from(argument).unwrap_or(0);
            return Response::new(Full::from(vec![b'x'; length]));
        }
        _ => {}
    }
    let mut headers = Map::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.insert(name.as_str().to_owned(), Value::String(value));
    }
    let content = json!({
        "pod": echo.pod,
        "version": echo.version,
        "number": number,
        "method": head.method.as_str(),
        "path": head.uri.path_and_query().map(ToString::to_string),
        "http": format!("{:?}", head.version),
        "peer": peer,
        "body": received,
        "headers": headers,
    });
    let mut response = Response::new(Full::from(content.to_string() + "\n"));
    *response.status_mut() = status;
    response
}
