//! Asks an admin interface: HTTP with JSON answers over a Unix socket, or through a cluster's API server over a port of a
//! pod's loopback. One request per connection; errors say what to do.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

/// An admin interface.
pub(crate) struct Admin {
    place: Place,
    /// Whose it is, for messages: `the control plane`.
    whose: String,
}

enum Place {
    Socket(PathBuf),
    Pod {
        pods: Api<Pod>,
        name: String,
        port: u16,
    },
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Ends with the reason why a port of a pod cannot be reached.
type Trouble = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

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
    pub(crate) fn new(socket: &Path, whose: &str) -> Self {
        Self {
            place: Place::Socket(socket.to_owned()),
            whose: whose.to_owned(),
        }
    }

    /// At a port of a pod's loopback.
    pub(crate) fn of_pod(client: Client, namespace: &str, pod: &str, port: u16) -> Self {
        Self {
            place: Place::Pod {
                pods: Api::namespaced(client, namespace),
                name: pod.to_owned(),
                port,
            },
            whose: format!("pod {namespace}/{pod}, port {port},"),
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

    /// The JSON answer to `GET path`, and the clock of whoever gave it.
    pub(crate) async fn get_dated(&self, path: &str) -> Result<(Value, Option<SystemTime>)> {
        let (body, headers) = self.send(Method::GET, path).await?;
        Ok((self.parsed(&body, path)?, date(&headers)))
    }

    /// The text answer to `GET path`.
    pub(crate) async fn get_text(&self, path: &str) -> Result<String> {
        let (body, _) = self.send(Method::GET, path).await?;
        String::from_utf8(body.to_vec())
            .with_context(|| format!("{} did not answer {path} in text", self.whose))
    }

    async fn json(&self, method: Method, path: &str) -> Result<Value> {
        let (body, _) = self.send(method, path).await?;
        self.parsed(&body, path)
    }

    fn parsed(&self, body: &[u8], path: &str) -> Result<Value> {
        serde_json::from_slice(body)
            .with_context(|| format!("{} did not answer {path} in JSON", self.whose))
    }

    async fn send(&self, method: Method, path: &str) -> Result<(Bytes, HeaderMap)> {
        let (stream, trouble) = self.connect().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "admin")
            .body(Empty::<Bytes>::new())?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok((head, body))
        };
        let unreachable = async {
            match trouble.await {
                Some(reason) => reason,
                None => std::future::pending().await,
            }
        };
        // The connection is driven beside the exchange and dropped with it. Why a port cannot be reached is
        // known at the same time as that nothing will come: the reason is what people need.
        let (head, body) = tokio::select! {
            biased;
            reason = unreachable => bail!("{} is not reachable: {}", self.whose, reason.trim()),
            done = exchange => done.with_context(|| format!("{} did not answer {path}", self.whose))?,
            ended = connection => {
                ended?;
                bail!("{} closed the connection without an answer", self.whose);
            }
        };
        if !head.status.is_success() {
            let message = message(&body);
            let status = head.status;
            return Err(Refused { status, message }.into());
        }
        Ok((body, head.headers))
    }

    async fn connect(&self) -> Result<(Box<dyn Stream>, Trouble)> {
        match &self.place {
            Place::Socket(socket) => {
                let stream = UnixStream::connect(socket).await.with_context(|| {
                    format!(
                        "{} is not reachable at {}. `weft up -f FOLDER` starts a mesh; one that runs elsewhere is named by \
                         --name or --run-dir",
                        self.whose,
                        socket.display()
                    )
                })?;
                Ok((Box::new(stream), Box::pin(std::future::pending())))
            }
            Place::Pod { pods, name, port } => {
                let forward = pods.portforward(name, &[*port]).await;
                let mut forward = forward.with_context(|| {
                    format!("{} is not reachable through the API server", self.whose)
                })?;
                let stream = forward
                    .take_stream(*port)
                    .context("no stream for the port")?;
                let trouble = forward
                    .take_error(*port)
                    .context("no errors for the port")?;
                Ok((Box::new(stream), Box::pin(trouble)))
            }
        }
    }
}

/// When an answer was given, by the clock of whoever gave it.
pub(crate) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    let text = headers.get(http::header::DATE)?.to_str().ok()?;
    httpdate::parse_http_date(text).ok()
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
