//! Asks an admin interface: HTTP with JSON answers over a Unix socket. One request per connection; errors say what to do.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use http::{Method, Request, StatusCode};
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

/// An answer that is no success, in the words of whoever gave it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub status: StatusCode,
    pub message: String,
}

impl std::error::Error for Refused {}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Admin {
    pub(crate) fn new(socket: &Path, whose: &'static str) -> Self {
        Self {
            socket: socket.to_owned(),
            whose,
        }
    }

    /// The JSON answer to `GET path`.
    ///
    /// # Errors
    /// Among others [`Refused`].
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.json(Method::GET, path).await
    }

    /// The JSON answer to `POST path`.
    ///
    /// # Errors
    /// Among others [`Refused`].
    pub(crate) async fn post(&self, path: &str) -> Result<Value> {
        self.json(Method::POST, path).await
    }

    /// The text answer to `GET path`.
    pub(crate) async fn get_text(&self, path: &str) -> Result<String> {
        let body = self.send(Method::GET, path).await?;
        String::from_utf8(body.to_vec())
            .with_context(|| format!("{} did not answer {path} in text", self.whose))
    }

    async fn json(&self, method: Method, path: &str) -> Result<Value> {
        let body = self.send(method, path).await?;
        serde_json::from_slice(&body)
            .with_context(|| format!("{} did not answer {path} in JSON", self.whose))
    }

    async fn send(&self, method: Method, path: &str) -> Result<Bytes> {
        let stream = UnixStream::connect(&self.socket).await.with_context(|| {
            format!(
                "{} is not reachable at {}. `weft up -f FOLDER` starts a mesh; one that runs elsewhere is named by --name or \
                 --run-dir",
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
            let message = message(&body);
            return Err(Refused { status, message }.into());
        }
        Ok(body)
    }
}

/// What an answer says that is no success: `{"error": "…"}` or text.
fn message(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let error = json.as_ref().and_then(|json| json["error"].as_str());
    error.map_or_else(
        || String::from_utf8_lossy(body).trim().to_owned(),
        str::to_owned,
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_said_in_the_words_of_who_made_it() {
        assert_eq!(message(br#"{"error":"no such pod"}"#), "no such pod");
        assert_eq!(message(b"no such pod\n"), "no such pod");
        assert_eq!(message(b"{}"), "{}");
    }

    #[test]
    fn query_values_are_encoded() {
        assert_eq!(query_value("a/b c&d=é-1.x"), "a%2Fb%20c%26d%3D%C3%A9-1.x");
    }
}
