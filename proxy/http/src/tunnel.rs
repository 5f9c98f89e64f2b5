//! Exchanges that leave HTTP: upgrades (RFC 9110 7.8, WebSocket above all) and CONNECT.
//!
//! The request path carries the head of such an exchange like any other, over an HTTP/1.1 connection of its own. When
//! the peer agrees, both connections become one [`Tunnel`], which the connection that the client opened owns and
//! runs after its codec has ended. Bytes pass as they are; each direction ends by itself.

use std::cell::RefCell;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use weft_proxy_telemetry::Flag;

use crate::body::Body;
use crate::exchange::{Exchange, Tracked};
use crate::head;
use crate::http1::Raw;

/// A client's wish to leave HTTP.
#[derive(Debug)]
pub(crate) struct Asked {
    client: OnUpgrade,
    /// The protocols it offers; none for CONNECT.
    offered: Option<HeaderValue>,
}

impl Asked {
    /// What the request asks, `offered` being its `upgrade` where `connection` names it.
    pub(crate) fn of(request: &mut Request<Body>, offered: Option<HeaderValue>) -> Option<Self> {
        let http1 = request.version() != http::Version::HTTP_2;
        let offered = offered.filter(leaves_http);
        (http1 && (offered.is_some() || request.method() == Method::CONNECT)).then(|| Self {
            client: hyper::upgrade::on(request),
            offered,
        })
    }

    /// Asks the peer for the same.
    pub(crate) fn pass_on(&self, headers: &mut HeaderMap) {
        if let Some(offered) = &self.offered {
            switching(headers, offered.clone());
        }
    }
}

/// Other versions of HTTP are no reason for a tunnel: what went through it would pass by every policy. Ignoring the
/// offer is allowed (RFC 9110 7.8), and what clients that probe for `h2c` expect of most servers.
fn leaves_http(offered: &HeaderValue) -> bool {
    offered.to_str().is_ok_and(|offered| {
        let mut protocols = offered
            .split(',')
            .map(|protocol| protocol.trim().to_ascii_lowercase());
        protocols.all(|name| {
            name != "h2c" && name != "h2" && !name.starts_with("http") && !name.starts_with("tls")
        })
    })
}

fn switching(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Where a connection keeps its tunnel until its codec has ended.
#[derive(Debug, Default)]
pub(crate) struct Slot(RefCell<Option<Tunnel>>);

/// Two connections that are one from here on.
#[derive(Debug)]
struct Tunnel {
    client: OnUpgrade,
    peer: Box<Raw>,
    exchange: Box<Exchange>,
}

impl Slot {
    /// The answer that tells the client that its peer agreed. `believed`: as in [`head::depart`].
    pub(crate) fn join(
        &self,
        asked: Asked,
        peer: Box<Raw>,
        mut exchange: Box<Exchange>,
        mut response: Response<Body>,
        believed: bool,
    ) -> Response<Tracked> {
        let protocol = response.headers_mut().remove(UPGRADE);
        head::depart(response.headers_mut(), believed);
        if let (StatusCode::SWITCHING_PROTOCOLS, Some(protocol)) = (response.status(), protocol) {
            switching(response.headers_mut(), protocol);
        }
        exchange.record().status = response.status().as_u16();
        *self.0.borrow_mut() = Some(Tunnel {
            client: asked.client,
            peer,
            exchange,
        });
        response.map(Tracked::from)
    }

    /// Runs the tunnel to its end, if there is one.
    pub(crate) async fn run(&self) {
        let tunnel = self.0.borrow_mut().take();
        if let Some(tunnel) = tunnel {
            tunnel.run().await;
        }
    }
}

impl Tunnel {
    async fn run(self) {
        let Self {
            client,
            mut peer,
            mut exchange,
        } = self;
        let Ok(client) = client.await else {
            return exchange.unanswered(Flag::ClientGone);
        };
        let mut client = TokioIo::new(client);
        let ahead = peer.ahead.len() as u64;
        let copying = async {
            client.write_all(&peer.ahead).await?;
            copy_bidirectional(&mut client, &mut peer.io).await
        };
        let copied = tokio::select! {
            copied = copying => copied.ok(),
            // The peer's certificate or this process has come to its end.
            () = peer.drain.ended() => None,
        };
        if let Some((sent, received)) = copied {
            let record = exchange.record();
            record.request_bytes = sent;
            record.response_bytes = received + ahead;
        }
        exchange.ended();
    }
}
