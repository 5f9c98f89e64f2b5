//! The application's probes, asked by the proxy itself: the kubelet asks at 15021, in the clear, and
//! strict mTLS neither breaks a probe nor exempts an address.
//!
//! JSON of `--probes` → [`Probes`]; a probe's key → the answer for the kubelet. Probes of HTTP, TCP
//! and gRPC as Kubernetes defines them (`v1.Probe`): HTTP passes with 200 to 399, gRPC with SERVING. Over
//! HTTPS the certificate is not judged, as the kubelet does not.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

mod unverified_tls;

/// All probes of a pod, by `CONTAINER/PROBE`.
#[derive(Debug, Clone, Default)]
pub struct Probes(Arc<BTreeMap<String, Probe>>);

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Probe {
    ask: Ask,
    timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ask {
    Http {
        port: u16,
        host: Option<IpAddr>,
        tls: bool,
        path: Uri,
        headers: Vec<(HeaderName, HeaderValue)>,
    },
    Tcp {
        port: u16,
        host: Option<IpAddr>,
    },
    Grpc {
        port: u16,
        service: String,
    },
}

/// A probe as Kubernetes writes it; the kubelet's own timing fields are its business.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    grpc: Option<Grpc>,
    timeout_seconds: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HttpGet {
    port: u16,
    host: Option<IpAddr>,
    path: Option<String>,
    scheme: Option<String>,
    #[serde(default)]
    http_headers: Vec<Header>,
}

#[derive(Debug, Deserialize)]
struct Header {
    name: String,
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TcpSocket {
    port: u16,
    host: Option<IpAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grpc {
    port: u16,
    service: Option<String>,
}

/// Why the probes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Not the JSON that was expected.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// One of them cannot be asked.
    #[error("{key}: {reason}")]
    Probe {
        /// `CONTAINER/PROBE`.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What the application answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is well.
    Well,
    /// It is not, or did not answer in time.
    Unwell(String),
}

impl Probes {
    /// What can be asked for, for people.
    pub fn keys(&self) -> String {
        let keys: Vec<_> = self.0.keys().map(String::as_str).collect();
        keys.join(", ")
    }

    /// Reads the JSON of `--probes`.
    ///
    /// # Errors
    /// [`ProbeError`], naming the probe.
    pub fn parse(json: &str) -> Result<Self, ProbeError> {
        let written: BTreeMap<String, Written> = serde_json::from_str(json)?;
        let mut probes = BTreeMap::new();
        for (key, written) in written {
            match written.parse() {
                Ok(probe) => probes.insert(key, probe),
                Err(reason) => return Err(ProbeError::Probe { key, reason }),
            };
        }
        Ok(Self(Arc::new(probes)))
    }

    /// Asks the application at `pod`. None: there is no such probe.
    pub async fn ask(&self, key: &str, pod: IpAddr) -> Option<Answer> {
        let probe = self.0.get(key)?;
        let answer = timeout(probe.timeout, probe.ask.ask(pod)).await;
        Some(match answer {
            Ok(Ok(())) => Answer::Well,
            Ok(Err(reason)) => Answer::Unwell(reason),
            Err(_) => Answer::Unwell(format!("no answer within {:?}", probe.timeout)),
        })
    }
}

impl Written {
    fn parse(self) -> Result<Probe, String> {
        let ask = match (self.http_get, self.tcp_socket, self.grpc) {
            (Some(get), None, None) => get.parse()?,
            (None, Some(tcp), None) => Ask::Tcp {
                port: tcp.port,
                host: tcp.host,
            },
            (None, None, Some(grpc)) => Ask::Grpc {
                port: grpc.port,
                service: grpc.service.unwrap_or_default(),
            },
            _ => return Err("exactly one of httpGet, tcpSocket and grpc is needed".to_owned()),
        };
        Ok(Probe {
            ask,
            timeout: Duration::from_secs(self.timeout_seconds.unwrap_or(1).max(1)),
        })
    }
}

impl HttpGet {
    fn parse(self) -> Result<Ask, String> {
        let tls = match self.scheme.as_deref() {
            None | Some("HTTP" | "http") => false,
            Some("HTTPS" | "https") => true,
            Some(other) => return Err(format!("scheme {other:?} is neither HTTP nor HTTPS")),
        };
        let path = self.path.unwrap_or_else(|| "/".to_owned());
        let headers = self.http_headers.into_iter().map(|header| {
            let name = header.name.parse().map_err(|_| header.name.clone())?;
            let value = header.value.parse().map_err(|_| header.name)?;
            Ok((name, value))
        });
        Ok(Ask::Http {
            port: self.port,
            host: self.host,
            tls,
            path: path
                .parse()
                .map_err(|_| format!("{path:?} is no HTTP path"))?,
            headers: headers
                .collect::<Result<_, String>>()
                .map_err(|name| format!("header {name:?} cannot be sent"))?,
        })
    }
}

impl Ask {
    async fn ask(&self, pod: IpAddr) -> Result<(), String> {
        match self {
            Self::Tcp { port, host } => dial((host.unwrap_or(pod), *port).into()).await.map(drop),
            Self::Http {
                port,
                host,
                tls,
                path,
                headers,
            } => {
                let to = SocketAddr::new(host.unwrap_or(pod), *port);
                let stream = dial(to).await?;
                if *tls {
                    let stream = unverified_tls::connect(stream, to.ip()).await?;
                    http_get(stream, to, path, headers).await
                } else {
                    http_get(stream, to, path, headers).await
                }
            }
            Self::Grpc { port, service } => grpc_check((pod, *port).into(), service).await,
        }
    }
}

async fn dial(to: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(to)
        .await
        .map_err(|error| format!("cannot connect to {to}: {error}"))
}

/// More of an answer than this is not read.
const LONGEST_ANSWER: usize = 10 * 1024;

async fn http_get(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    to: SocketAddr,
    path: &Uri,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<(), String> {
    let mut request = Request::get(path.clone())
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let sent = request.headers_mut();
    sent.insert(http::header::HOST, host_header(to));
    sent.insert(
        http::header::USER_AGENT,
        HeaderValue::from_static("kube-probe/weft"),
    );
    for (name, value) in headers {
        sent.insert(name.clone(), value.clone());
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let mut exchange = pin!(async {
        let response = sender.send_request(request).await?;
        Ok::<_, hyper::Error>(response.status())
    });
    let status = tokio::select! {
        biased;
        status = &mut exchange => status,
        // The answer may have come with the end.
        _ = connection => exchange.await,
    };
    let status = status.map_err(|error| error.to_string())?;
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("the application answered {status}"))
    }
}

fn host_header(to: SocketAddr) -> HeaderValue {
    HeaderValue::from_str(&to.to_string()).expect("an address is printable ASCII")
}

/// `grpc.health.v1.Health/Check` (grpc/grpc `doc/health-checking.md`).
async fn grpc_check(to: SocketAddr, service: &str) -> Result<(), String> {
    let request = Request::post(format!("http://{to}/grpc.health.v1.Health/Check"))
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .body(Full::new(health_check_request(service)))
        .map_err(|error| error.to_string())?;
    let io = TokioIo::new(dial(to).await?);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .map_err(|error| error.to_string())?;
    let mut exchange = pin!(async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let body = Limited::new(response.into_body(), LONGEST_ANSWER);
        let body = body.collect().await.map_err(|error| error.to_string())?;
        Ok::<_, String>(body.to_bytes())
    });
    let body = tokio::select! {
        biased;
        body = &mut exchange => body?,
        _ = connection => exchange.await?,
    };
    match serving_status(&body) {
        Some(SERVING) => Ok(()),
        Some(status) => Err(format!("its health status is {status}, not SERVING")),
        None => Err("it does not know of this service's health".to_owned()),
    }
}

const SERVING: u8 = 1;

/// One gRPC message, `HealthCheckRequest { string service = 1; }`.
fn health_check_request(service: &str) -> Bytes {
    let mut message = Vec::with_capacity(service.len() + 16);
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

/// The status in `HealthCheckResponse { ServingStatus status = 1; }`; a default value is not sent.
fn serving_status(framed: &[u8]) -> Option<u8> {
    let (header, message) = framed.split_at_checked(5)?;
    if header[0] != 0 {
        return None;
    }
    match message {
        [] => Some(0),
        [0x08, status, ..] => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
