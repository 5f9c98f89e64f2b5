//! A request to this pod's application, from its head to the record of it:
//!
//! accept → original destination → detect/TLS → identity → route → authenticate → authorise → limit → app → record
//!
//! The phases up to identity are done once per connection, in proxy/net; [`request`] calls the others, in this
//! order, for each request.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode, Version};
use weft_proxy_config::{Decision, Inbound, InboundPort, MtlsMode, Peer, Protocol};
use weft_proxy_net::{Drain, PeerInfo};
use weft_proxy_telemetry::{Direction, Flag, ServiceLabel};

use crate::attempt;
use crate::body::Body;
use crate::exchange::{Exchange, Tracked};
use crate::failure::{self, Failure};
use crate::head;
use crate::http2_server::Answer;
use crate::kept_head::KeptHead;
use crate::pool::{Destination, PoolError, Sharing};
use crate::sent::SendError;
use crate::tunnel::{self, Asked};
use crate::unreadable;
use crate::worker::Worker;

/// What is known of a connection before its first request.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: PeerInfo,
    /// The pod's address and port that were dialled; the port selects policy.
    pub(crate) local: SocketAddr,
    /// Where the application listens.
    pub(crate) app: SocketAddr,
    pub(crate) drain: Drain,
    /// What becomes of the connection after a request that left HTTP.
    pub(crate) tunnel: tunnel::Slot,
}

/// For the connection to the application, which is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an HTTP/2 connection to the application may rest.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections that may turn out to be closed before a request gives up.
const STALE_CONNECTIONS: usize = 5;

/// One request, all phases.
pub(crate) async fn request(
    worker: &Worker,
    conn: &Connection,
    request: Request<Body>,
) -> Answer<Tracked> {
    let Accepted {
        mut exchange,
        mut request,
        speaks,
        asked,
    } = accept(worker, conn, request);
    let routed = check(conn, &mut request).and_then(|()| route(worker, conn, &mut exchange));
    let policy = match routed {
        Ok(policy) => policy,
        Err(failure) => return Answer::Response(exchange.fail(failure)),
    };
    let allowed = authenticate(conn, policy.port)
        .and_then(|()| authorise(conn, &policy.inbound, &request))
        .and_then(|()| limit(worker, &mut exchange));
    if let Err(failure) = allowed {
        return Answer::Response(exchange.fail(failure));
    }
    exchange.record().trace.inject(request.headers_mut());
    let speaks = speaks.to_app(policy.port);
    let mut outgoing = Some(request);
    let answered = app(
        worker,
        conn,
        &mut exchange,
        speaks,
        &mut outgoing,
        asked.as_ref(),
    )
    .await;
    record(conn, exchange, answered, asked)
}

/// What the client of the exchange spoke; its application gets the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http2,
}

impl Speaks {
    /// A port declared to be HTTP/1 never gets anything else.
    fn to_app(self, port: InboundPort) -> Self {
        match port.protocol {
            Protocol::Http1 => Self::Http1,
            _ => self,
        }
    }
}

/// The rules that hold for this request.
struct Rules {
    inbound: Arc<Inbound>,
    port: InboundPort,
}

struct Accepted {
    exchange: Box<Exchange>,
    request: Request<Body>,
    speaks: Speaks,
    /// It asks to leave HTTP.
    asked: Option<Asked>,
}

/// Begins the record; takes off what belongs to the connection and what only Weft may say.
fn accept(worker: &Worker, conn: &Connection, mut request: Request<Body>) -> Accepted {
    let log = worker.store.mesh().access_log;
    let mut exchange = Exchange::begin(
        &worker.telemetry,
        log,
        Direction::Inbound,
        conn.peer.address,
        &request,
    );
    let arrived = head::arrive(request.headers_mut());
    // The marker is believed only from a proxy of the mesh.
    let over_hop = conn.peer.mesh.then_some(arrived.client_version).flatten();
    let speaks = match (request.version(), over_hop) {
        (Version::HTTP_2, None) => Speaks::Http2,
        _ => Speaks::Http1,
    };
    let asked = Asked::of(&mut request, arrived.upgrade);
    if let Some(upload) = exchange.upload.clone() {
        request = request.map(|body| body.reporting(upload));
    }
    let record = exchange.record();
    record.source = conn.peer.identity.clone();
    record.mtls = conn.peer.identity.is_some();
    record.peer = Some(conn.app);
    record.authority = head::host_value(&request);
    Accepted {
        exchange,
        request,
        speaks,
        asked,
    }
}

/// Who sends on this connection, where nothing but that is known.
pub(crate) fn sender<'a>(worker: &Worker, conn: &'a Connection) -> unreadable::From<'a> {
    let inbound = worker.store.inbound();
    unreadable::From {
        direction: Direction::Inbound,
        address: conn.peer.address,
        identity: conn.peer.identity.as_ref(),
        destination: inbound.map(|inbound| label(&inbound, conn)),
    }
}

fn label(inbound: &Inbound, conn: &Connection) -> ServiceLabel {
    ServiceLabel {
        namespace: inbound.namespace.clone(),
        name: inbound.workload.clone(),
        port: conn.local.port(),
    }
}

/// Refuses what is too large to be taken from a client, and what two readers could understand differently.
fn check(conn: &Connection, request: &mut Request<Body>) -> Result<(), Failure> {
    if !conn.peer.mesh {
        failure::fits(request)?;
    }
    head::one_host(request)
        .map_err(|what| Failure::new(StatusCode::BAD_REQUEST, Flag::BadRequest, what))
}

/// Finds the rules of the port. Without any the pod takes nothing.
fn route(worker: &Worker, conn: &Connection, exchange: &mut Exchange) -> Result<Rules, Failure> {
    let Some(inbound) = worker.store.inbound() else {
        let text = "this proxy has no policy yet and lets nothing through";
        return Err(Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Flag::NotReady,
            text,
        ));
    };
    exchange.record().destination = Some(label(&inbound, conn));
    let port = inbound.port(conn.local.port());
    Ok(Rules { inbound, port })
}

/// Who calls was proven when the connection began; whether that is enough is asked for each request, since the
/// mode may have changed meanwhile.
fn authenticate(conn: &Connection, port: InboundPort) -> Result<(), Failure> {
    if port.mtls == MtlsMode::Strict && conn.peer.identity.is_none() {
        let text = "this port takes mutual TLS only";
        return Err(Failure::new(
            StatusCode::FORBIDDEN,
            Flag::PlaintextRefused,
            text,
        ));
    }
    Ok(())
}

fn authorise(conn: &Connection, inbound: &Inbound, request: &Request<Body>) -> Result<(), Failure> {
    let peer = Peer {
        identity: conn.peer.identity.as_ref(),
        address: conn.peer.address.ip(),
        port: conn.local.port(),
    };
    match inbound.authorize_request(&peer, &head::view(request)) {
        Decision::Allow => Ok(()),
        Decision::Deny(id) => Err(Failure::denied(id)),
    }
}

/// Bounds what one worker carries at a time.
fn limit(worker: &Worker, exchange: &mut Exchange) -> Result<(), Failure> {
    match worker.inbound_place() {
        Some(place) => {
            exchange.held.place = Some(place);
            Ok(())
        }
        None => {
            let text = "too many requests in flight to this pod";
            Err(Failure::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Flag::Overloaded,
                text,
            ))
        }
    }
}

/// Hands the request to the application, in the version that its client spoke.
async fn app(
    worker: &Worker,
    conn: &Connection,
    exchange: &mut Exchange,
    speaks: Speaks,
    outgoing: &mut Option<Request<Body>>,
    asked: Option<&Asked>,
) -> Result<Response<Body>, Lost> {
    exchange.record().attempts = 1;
    let to = Destination {
        id: 0,
        addr: conn.app,
        identity: None,
        backend: None,
        connect_timeout: CONNECT_TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
    };
    if let Some(request) = outgoing {
        match speaks {
            Speaks::Http2 => head::for_http2(request),
            Speaks::Http1 => head::for_http1(request),
        }
        if let Some(asked) = asked {
            asked.pass_on(request.headers_mut());
        }
    }
    if speaks == Speaks::Http2 {
        let app = worker.pool.http2(&to, Sharing::Shared).await?;
        return Ok(app.send(outgoing).await?);
    }
    let repeatable = exchange.upload.is_none()
        && outgoing
            .as_ref()
            .is_some_and(|request| attempt::is_idempotent(request.method()));
    for _ in 0..STALE_CONNECTIONS {
        let (app, shelf) = worker.pool.http1(&to).await?;
        let kept = outgoing
            .as_ref()
            .filter(|_| repeatable && app.is_reused())
            .map(KeptHead::of);
        match (
            app.send(outgoing, exchange.upload.as_ref(), &shelf).await,
            kept,
        ) {
            // The application closed the connection before anything was written to it…
            (Err(SendError::Undelivered), _) if outgoing.is_some() => {}
            // …or just when it was.
            (Err(SendError::Stale), Some(kept)) => *outgoing = Some(kept.request(Body::empty())),
            (sent, _) => return Ok(sent?),
        }
    }
    Err(SendError::Undelivered.into())
}

/// Why there is no answer of the application's.
#[derive(Debug, thiserror::Error)]
enum Lost {
    /// It got nothing of the request.
    #[error("the application is not reachable: {0}")]
    Unreachable(#[from] PoolError),
    #[error("the application did not answer: {0}")]
    Sending(#[from] SendError),
}

/// Turns the outcome into what the caller gets: another proxy is told exactly how far the request came, so that it
/// can send it elsewhere; others get an answer in HTTP.
fn record(
    conn: &Connection,
    exchange: Box<Exchange>,
    answered: Result<Response<Body>, Lost>,
    asked: Option<Asked>,
) -> Answer<Tracked> {
    let lost = match answered {
        Ok(mut response) => {
            if let (Some(raw), Some(asked)) = (response.body_mut().take_raw(), asked) {
                return Answer::Response(conn.tunnel.join(asked, raw, exchange, response, false));
            }
            head::depart(response.headers_mut(), false);
            return Answer::Response(exchange.answer(response));
        }
        Err(lost) => lost,
    };
    let (status, flag) = match &lost {
        Lost::Unreachable(_) if conn.drain.is_draining() => {
            (StatusCode::SERVICE_UNAVAILABLE, Flag::Leaving)
        }
        Lost::Unreachable(_) => (StatusCode::SERVICE_UNAVAILABLE, Flag::ConnectFailed),
        Lost::Sending(SendError::ClientGone) => (StatusCode::BAD_REQUEST, Flag::ClientGone),
        Lost::Sending(SendError::Unsendable) => (StatusCode::BAD_REQUEST, Flag::BadRequest),
        Lost::Sending(_) => (StatusCode::BAD_GATEWAY, Flag::Reset),
    };
    let ended = match &lost {
        Lost::Unreachable(_) | Lost::Sending(SendError::Undelivered | SendError::Refused) => {
            Some(Answer::Undelivered)
        }
        Lost::Sending(SendError::Reset | SendError::Stale) => {
            Some(Answer::Reset(h2::Reason::INTERNAL_ERROR))
        }
        Lost::Sending(SendError::ClientGone) => Some(Answer::Reset(h2::Reason::CANCEL)),
        Lost::Sending(SendError::Unsendable) => None,
    };
    match ended {
        Some(ended) if conn.peer.mesh || flag == Flag::ClientGone => {
            exchange.unanswered(flag);
            ended
        }
        _ => Answer::Response(exchange.fail(Failure::new(status, flag, lost.to_string()))),
    }
}

/// One connection's requests share what is known of it.
pub(crate) type Shared = Rc<Connection>;
