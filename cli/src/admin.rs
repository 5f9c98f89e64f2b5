//! Asks an admin interface: HTTP with JSON answers over a Unix socket. One request per connection; errors say what to do.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// An admin interface at a socket.
pub(crate) struct Admin {
    socket: PathBuf,
    /// Whose it is, for messages: `the control plane`.
    whose: &'static str,
}

impl Admin {
    pub(crate) fn new(socket: &Path, whose: &'static str) -> Self {
        Self {
            socket: socket.to_owned(),
            whose,
        }
    }

    /// The JSON answer to `GET path`.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        let body = self.send(Method::GET, path).await?;
        serde_json::from_slice(&body)
            .with_context(|| format!("{} did not answer {path} in JSON", self.whose))
    }

    /// The text answer to `GET path`.
    pub(crate) async fn get_text(&self, path: &str) -> Result<String> {
        let body = self.send(Method::GET, path).await?;
        String::from_utf8(body.to_vec())
            .with_context(|| format!("{} did not answer {path} in text", self.whose))
    }

    async fn send(&self, method: Method, path: &str) -> Result<Bytes> {
        let stream = UnixStream::connect(&self.socket).await.with_context(|| {
            format!(
                "{} is not reachable at {}: is a mesh running here? Start one with `weft up -f FOLDER`, or name \
                 another by --run-dir",
                self.whose,
                self.socket.display()
            )
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "admin")
            .body(Empty::<Bytes>::new())?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            anyhow::Ok((status, body))
        };
        // The connection is driven beside the exchange and dropped with it.
        let (status, body) = tokio::select! {
            done = exchange => done?,
            ended = connection => {
                ended?;
                bail!("{} closed the connection without an answer", self.whose);
            }
        };
        if !status.is_success() {
            bail!(
                "{} answered {status}: {}",
                self.whose,
                String::from_utf8_lossy(&body).trim()
            );
        }
        Ok(body)
    }
}

/// Percent-encodes what may not stand in a query's value.
pub(crate) fn query_value(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte))
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
