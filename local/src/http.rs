//! The few HTTP requests that this crate makes itself: probes, and the admin sockets of its own
//! processes. One connection per request.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// More than any admin page that is read whole.
const MAX_BODY: usize = 64 << 20;

/// What may go wrong with a request; only ever shown or counted as a failure.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// GET over TCP for a probe; the status.
pub async fn get(
    address: SocketAddr,
    path: &str,
    headers: &[(String, String)],
) -> Result<u16, Error> {
    let mut request = Request::get(path).header("user-agent", "weft-probe");
    let mut host = address.to_string();
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("host") {
            host.clone_from(value);
        } else {
            request = request.header(name, value);
        }
    }
    let request = request.header("host", host).header("connection", "close");
    let stream = TcpStream::connect(address).await?;
    let response = exchange(stream, request.body(Full::default())?).await?;
    Ok(response.status().as_u16())
}

/// A request to a server on a Unix socket; status and body.
pub async fn unix(
    socket: &Path,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(u16, Bytes), Error> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Full::new(body))?;
    let response = exchange(UnixStream::connect(socket).await?, request).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_BODY)
        .collect()
        .await?;
    Ok((status, body.to_bytes()))
}

/// Sends one request over `stream` by HTTP/1.1. The connection lives on with the response's body.
pub async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<Response<hyper::body::Incoming>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the response's body or the dropped sender, whichever is later.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// `grpc.health.v1.Health/Check` over plain HTTP/2: whether the answer is SERVING.
pub async fn grpc_serving(address: SocketAddr, service: &str) -> Result<bool, Error> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(health_check_request(service)?))?;
    let response = sender.send_request(request).await?;
    let body = Limited::new(response.into_body(), MAX_BODY)
        .collect()
        .await?;
    let failed = body
        .trailers()
        .and_then(|trailers| trailers.get("grpc-status"))
        .is_none_or(|status| status != "0");
    connection.abort();
    // Frame header of 5 bytes, then field 1 (status) as a varint: 1 is SERVING.
    Ok(!failed && body.to_bytes().get(5..7) == Some(&[0x08, 0x01]))
}

/// The message with field 1 (service) in a frame.
fn health_check_request(service: &str) -> Result<Bytes, Error> {
    let length = u8::try_from(service.len())
        .ok()
        .filter(|length| *length < 126);
    let length = length.ok_or("the service name is too long")?;
    if length == 0 {
        return Ok(Bytes::from_static(&[0; 5]));
    }
    let mut frame = vec![0, 0, 0, 0, length + 2, 0x0a, length];
    frame.extend_from_slice(service.as_bytes());
    Ok(frame.into())
}
