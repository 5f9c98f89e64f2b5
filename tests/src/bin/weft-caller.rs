//! Clients that curl cannot be, over HTTP/2. Each line of output is JSON or a word that says how far
//! it is.
//!
//! `grpc HOST:PORT METHOD MESSAGE` calls with tonic and prints messages, status and trailers;
//! `abandon HOST:PORT PATH STREAMS reset` opens so many streams on one connection, waits for the
//! first bytes of each, resets them all, and makes one more request on the connection;
//! `abandon HOST:PORT PATH STREAMS leave` ends the process instead, without a goodbye;
//! `stall HOST:PORT PATH` asks for a body and never reads it, until it is killed.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::net::TcpStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};

type Fault = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["grpc", at, method, message] => grpc(at, method, message).await,
        ["abandon", at, path, streams, how] => abandon(at, path, streams.parse()?, how).await,
        ["stall", at, path] => stall(at, path).await,
        _ => Err("what is to be done?".into()),
    }
}

/// Messages are bytes here.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

async fn grpc(at: &str, method: &str, message: &str) -> Result<(), Fault> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{at}"))?
        .timeout(Duration::from_secs(20))
        .connect()
        .await?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await?;
    let request = tonic::Request::new(Bytes::copy_from_slice(message.as_bytes()));
    let mut messages = Vec::new();
    let called = client.server_streaming(request, method.parse()?, Raw).await;
    let outcome = match called {
        Ok(response) => {
            let mut stream = response.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(bytes)) => messages.push(String::from_utf8(bytes.to_vec())?),
                    Ok(None) => break Ok(stream.trailers().await?.unwrap_or_default()),
                    Err(status) => break Err(status),
                }
            }
        }
        Err(status) => Err(status),
    };
    let report = match outcome {
        Ok(trailers) => json!({
            "messages": messages,
            "code": Code::Ok as i32,
            "sum": trailers.get("x-sum").and_then(|value| value.to_str().ok()),
        }),
        Err(status) => json!({
            "messages": messages,
            "code": status.code() as i32,
            "message": status.message(),
            "flag": flag(&status),
        }),
    };
    println!("{report}");
    Ok(())
}

fn flag(status: &Status) -> Option<&str> {
    let value = status.metadata().get("weft-response-flag")?;
    value.to_str().ok()
}

async fn connect(at: &str) -> Result<h2::client::SendRequest<Bytes>, Fault> {
    let stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    // Many streams that send little are what this client is for; h2 takes them for an attack.
    let mut client = h2::client::Builder::new();
    client.data_frame_budget(64 << 20);
    let (sender, connection) = client.handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn get(at: &str, path: &str) -> Result<http::Request<()>, Fault> {
    Ok(http::Request::get(format!("http://{at}{path}")).body(())?)
}

async fn abandon(at: &str, path: &str, streams: usize, how: &str) -> Result<(), Fault> {
    let sender = connect(at).await?;
    let open = |_| {
        let sender = sender.clone();
        async move {
            let mut sender = sender.ready().await?;
            let (response, _) = sender.send_request(get(at, path)?, true)?;
            let response = response.await?;
            if response.status() != 200 {
                return Err(format!("{} {:?}", response.status(), response.headers()).into());
            }
            let mut body = response.into_body();
            let first = body.data().await.ok_or("no body")??;
            body.flow_control().release_capacity(first.len())?;
            Ok::<_, Fault>(body)
        }
    };
    let bodies = try_join_all((0..streams).map(open)).await?;
    println!("{}", json!({ "opened": bodies.len() }));
    if how == "leave" {
        std::process::exit(0);
    }
    // What is dropped before its end is reset with CANCEL.
    drop(bodies);
    let mut sender = sender.ready().await?;
    let (response, _) = sender.send_request(get(at, "/after")?, true)?;
    println!("{}", json!({ "after": response.await?.status().as_u16() }));
    Ok(())
}

async fn stall(at: &str, path: &str) -> Result<(), Fault> {
    let mut sender = connect(at).await?.ready().await?;
    let (response, _) = sender.send_request(get(at, path)?, true)?;
    let response = response.await?;
    println!("{}", json!({ "stalled": response.status().as_u16() }));
    std::future::pending().await
}
