//! The gRPC application behind every contender, and one call to it for the checks. gRPC as it is on
//! the wire (HTTP/2, length-prefixed message, trailers), without a gRPC library.

use std::convert::Infallible;

use anyhow::Context;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The answer with its prefix of 5 bytes is 1 KiB.
const MESSAGE: usize = 1024 - 5;

/// One length-prefixed message of `length` bytes.
pub fn framed(length: usize) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put_bytes(b'x', length);
    frame.freeze()
}

/// Answers every call with one message and `grpc-status: 0`, once the request has been read.
pub async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    let answer = framed(MESSAGE);
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer.clone();
            async move { Ok::<_, Infallible>(reply(request, answer).await) }
        });
        connections.spawn(async move {
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.max_concurrent_streams(1024);
            // A client that went away is no concern of the application.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn reply(
    request: Request<Incoming>,
    answer: Bytes,
) -> Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    let trailers = async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Some(Ok(trailers))
    };
    let mut response = Response::new(Full::new(answer).with_trailers(trailers));
    let kind = HeaderValue::from_static("application/grpc");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    response
}

/// Calls the backend at `host:port` once.
///
/// # Errors
/// The answer is not the backend's: another status, a cut message, or no trailers.
pub async fn call(target: &str) -> anyhow::Result<()> {
    let stream = TcpStream::connect(target)
        .await
        .with_context(|| target.to_owned())?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let request = Request::post(format!("http://{target}/bench.Echo/Call"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed(64)))?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?;
        anyhow::Ok((status, body.trailers().cloned(), body.to_bytes()))
    };
    let (status, trailers, message) = tokio::select! {
        answer = exchange => answer?,
        end = connection => anyhow::bail!("the connection ended: {end:?}"),
    };
    anyhow::ensure!(status == 200, "HTTP status {status}");
    let grpc_status = trailers
        .as_ref()
        .and_then(|trailers| trailers.get("grpc-status"));
    anyhow::ensure!(
        grpc_status.is_some_and(|status| status == "0"),
        "trailers: {trailers:?}"
    );
    anyhow::ensure!(
        message == framed(MESSAGE),
        "a message of {} bytes",
        message.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_gets_message_and_trailers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener));
        call(&address.to_string()).await.unwrap();
        server.abort();
    }
}
