//! One attempt of an outbound request: which endpoint, over which codec, and how it ended.
//!
//! balance → connect → send. Input: a plan and a head; output: the head of an answer or a [`Fault`]. Knows nothing of
//! other attempts ([`crate::attempt`]) nor of routes ([`crate::outbound`]).

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use tokio::time::{Instant, timeout};
use weft_identity::SpiffeId;
use weft_proxy_config::{
    Backend, BackendState, InFlight, Protocol, Target, TrafficPolicy, balance,
};
use weft_proxy_telemetry::Flag;

use crate::attempt::Ended;
use crate::body::{Body, Upload};
use crate::failure::Failure;
use crate::head;
use crate::plan::Plan;
use crate::pool::{Codec, Conn, Destination, PoolError, Wanted};
use crate::sent::SendError;
use crate::tunnel::Asked;
use crate::worker::Worker;

/// Bodies declared larger than this do not share a hop.
const SHARED_BODY: u64 = 1 << 20;

/// Where a request is to go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To<'a> {
    Backend(&'a Arc<Backend>),
    /// Outside the mesh: the address that was dialled.
    Address(SocketAddr),
}

/// The endpoint of one attempt.
#[derive(Debug)]
pub(crate) struct Aim {
    /// 0 outside the mesh.
    pub(crate) id: u64,
    pub(crate) addr: SocketAddr,
    protocol: Protocol,
    mtls: bool,
    pub(crate) target: Option<(Arc<Backend>, Target)>,
}

impl Aim {
    /// Its answers come from a proxy of the mesh.
    pub(crate) fn is_mesh(&self) -> bool {
        self.mtls
    }

    fn identity(&self) -> Option<&SpiffeId> {
        self.target
            .as_ref()
            .and_then(|(_, target)| target.endpoint.identity.as_ref())
    }

    /// Counts the attempt as in flight at its endpoint.
    pub(crate) fn begin(&self) -> Option<InFlight> {
        self.target
            .as_ref()
            .map(|(_, target)| target.endpoint.state.begin())
    }
}

/// Why an attempt, or all of them, brought no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// There is no endpoint to try.
    NoEndpoint,
    /// The endpoint takes mTLS but nobody knows who it is. Never plaintext instead.
    NoIdentity(SocketAddr),
    Pool(PoolError),
    Sent(SendError),
    /// The attempt's own time ran out.
    AttemptTimeout(Duration),
    /// The request's time ran out.
    Deadline,
}

impl Fault {
    pub(crate) fn ended(&self) -> Ended {
        match self {
            Self::Pool(PoolError::Overloaded(_)) => Ended::Overloaded,
            Self::Pool(_) | Self::NoIdentity(_) | Self::NoEndpoint => Ended::NotConnected,
            Self::Sent(error) => Ended::Sent(*error),
            Self::AttemptTimeout(_) | Self::Deadline => Ended::TimedOut,
        }
    }

    /// The answer that says so; none where nobody is left to read it.
    pub(crate) fn failure(&self, plan: &Plan<'_>) -> Option<Failure> {
        let (status, flag) = match self {
            Self::NoEndpoint => (StatusCode::SERVICE_UNAVAILABLE, Flag::NoEndpoint),
            Self::Pool(PoolError::Overloaded(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, Flag::Overloaded)
            }
            Self::Pool(_)
            | Self::NoIdentity(_)
            | Self::Sent(SendError::Undelivered | SendError::Refused) => {
                (StatusCode::SERVICE_UNAVAILABLE, Flag::ConnectFailed)
            }
            Self::Sent(SendError::Reset | SendError::Stale) => {
                (StatusCode::BAD_GATEWAY, Flag::Reset)
            }
            Self::Sent(SendError::Unsendable) => (StatusCode::BAD_REQUEST, Flag::BadRequest),
            Self::Sent(SendError::ClientGone) => return None,
            Self::AttemptTimeout(_) | Self::Deadline => {
                (StatusCode::GATEWAY_TIMEOUT, Flag::Timeout)
            }
        };
        Some(Failure::new(status, flag, format!("{}: {self}", plan.to)))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoint => f.write_str("no endpoint takes requests"),
            Self::NoIdentity(addr) => write!(f, "the identity of {addr} is not known"),
            Self::Pool(error) => error.fmt(f),
            Self::Sent(error) => error.fmt(f),
            Self::AttemptTimeout(limit) => write!(f, "no answer within {limit:?}"),
            Self::Deadline => f.write_str("no answer within the request's time"),
        }
    }
}

impl fmt::Display for To<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend(backend) => backend.key.fmt(f),
            Self::Address(addr) => addr.fmt(f),
        }
    }
}

impl To<'_> {
    /// How it is to be treated.
    pub(crate) fn policy(&self) -> Arc<TrafficPolicy> {
        static OUTSIDE: LazyLock<Arc<TrafficPolicy>> = LazyLock::new(Arc::default);
        match self {
            Self::Backend(backend) => backend.load().policy.clone(),
            Self::Address(_) => OUTSIDE.clone(),
        }
    }

    pub(crate) fn state(&self) -> Option<&BackendState> {
        match self {
            Self::Backend(backend) => Some(&backend.state),
            Self::Address(_) => None,
        }
    }

    /// Is there an endpoint that was not tried?
    pub(crate) fn has_untried(&self, tried: &[u64]) -> bool {
        match self {
            Self::Backend(backend) => backend
                .load()
                .targets()
                .iter()
                .any(|target| !tried.contains(&target.id())),
            Self::Address(_) => false,
        }
    }
}

/// The endpoint of the next attempt.
pub(crate) fn balance(worker: &Worker, plan: &Plan<'_>, tried: &[u64]) -> Result<Aim, Fault> {
    let backend = match plan.to {
        To::Backend(backend) => backend,
        To::Address(addr) => {
            return Ok(Aim {
                id: 0,
                addr,
                protocol: Protocol::Detect,
                mtls: false,
                target: None,
            });
        }
    };
    let now = Instant::now().into_std();
    let snapshot = backend.load();
    let rng = &mut *worker.rng.borrow_mut();
    let target = balance::pick(&snapshot, &backend.state, now, tried, rng, |id| {
        worker.latency(id, now)
    })
    .ok_or(Fault::NoEndpoint)?;
    Ok(Aim {
        id: target.id(),
        addr: target.addr,
        protocol: target.protocol,
        mtls: target.mtls,
        target: Some((backend.clone(), target.clone())),
    })
}

/// What a request asks for beside its answer.
#[derive(Debug)]
pub(crate) struct Asks {
    /// To leave HTTP.
    pub(crate) leave: Option<Asked>,
    /// To be told before it sends its body.
    pub(crate) go_on: bool,
}

/// What is sent, and how far it has come.
#[derive(Clone, Copy)]
pub(crate) struct Sending<'a> {
    pub(crate) asks: &'a Asks,
    pub(crate) upload: Option<&'a Rc<Upload>>,
}

/// Connects and sends, within the attempt's own time.
pub(crate) async fn attempt(
    worker: &Worker,
    plan: &Plan<'_>,
    policy: &TrafficPolicy,
    aim: &Aim,
    what: Sending<'_>,
    outgoing: &mut Option<Request<Body>>,
) -> Result<Response<Body>, Fault> {
    let mut sending = pin!(send(worker, policy, aim, what, outgoing));
    let limit = match (policy.retries.per_try_timeout, plan.attempt_timeout) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    match limit {
        None => sending.await,
        Some(limit) => timeout(limit, &mut sending)
            .await
            .unwrap_or(Err(Fault::AttemptTimeout(limit))),
    }
}

async fn send(
    worker: &Worker,
    policy: &TrafficPolicy,
    aim: &Aim,
    what: Sending<'_>,
    outgoing: &mut Option<Request<Body>>,
) -> Result<Response<Body>, Fault> {
    let identity = match (aim.mtls, aim.identity()) {
        (true, None) => return Err(Fault::NoIdentity(aim.addr)),
        (true, Some(identity)) => Some(identity),
        (false, _) => None,
    };
    let to = Destination {
        id: aim.id,
        addr: aim.addr,
        identity,
        backend: aim.target.as_ref().map(|(backend, _)| backend),
        connect_timeout: policy.limits.connect_timeout,
        idle_timeout: policy.limits.idle_timeout,
    };
    let wanted = outgoing
        .as_ref()
        .map_or(Wanted::Shared, |request| wanted(aim, request, what.asks));
    let conn = worker.pool.connection(&to, wanted).await;
    match conn.map_err(Fault::Pool)? {
        Conn::Http2(conn) => {
            if let Some(request) = outgoing {
                prepare_for_http2(aim, what.asks, request);
            }
            let begun = Instant::now();
            let response = conn.send(outgoing).await.map_err(Fault::Sent)?;
            observe(worker, aim, begun);
            Ok(response)
        }
        Conn::Http1(conn, shelf) => {
            if let Some(request) = outgoing {
                prepare_for_http1(what.asks, request);
            }
            let begun = Instant::now();
            let sent = conn.send(outgoing, what.upload, &shelf).await;
            let response = sent.map_err(Fault::Sent)?;
            if aim.mtls && response.headers().contains_key(head::UNDELIVERED) {
                return Err(Fault::Sent(SendError::Refused));
            }
            observe(worker, aim, begun);
            Ok(response)
        }
    }
}

/// Of the request alone: the first one's handshake says nothing of the endpoint.
fn observe(worker: &Worker, aim: &Aim, begun: Instant) {
    if aim.id != 0 {
        let now = Instant::now();
        worker.observe(aim.id, now - begun, now.into_std());
    }
}

/// Makes the head one of HTTP/2. Whether a body is wanted the proxy at the other end says, after it has authorised the
/// request; outside the mesh it is sent as it comes.
fn prepare_for_http2(aim: &Aim, asks: &Asks, request: &mut Request<Body>) {
    if !aim.mtls {
        return head::for_http2(request);
    }
    mark(request);
    if asks.go_on {
        head::expect(request.headers_mut());
    }
}

fn prepare_for_http1(asks: &Asks, request: &mut Request<Body>) {
    head::for_http1(request);
    if let Some(asked) = &asks.leave {
        asked.pass_on(request.headers_mut());
    }
}

/// Between proxies shared HTTP/2 carries everything, but a large body has a hop of its own, and so has what may leave
/// HTTP. A body that is asked for comes over HTTP/2, where both sides see the interim answer. Outside the mesh the peer gets what the port is declared to be, else what the client spoke.
fn wanted(aim: &Aim, request: &Request<Body>, asks: &Asks) -> Wanted {
    let http1 = request.version() != Version::HTTP_2;
    if asks.leave.is_some() {
        return Wanted::Http1;
    }
    if aim.mtls {
        return match declared_length(request) > SHARED_BODY {
            false => Wanted::Shared,
            true if http1 && !asks.go_on => Wanted::Alone(Codec::Http1),
            true => Wanted::Alone(Codec::Http2),
        };
    }
    match aim.protocol {
        Protocol::Http1 => Wanted::Http1,
        Protocol::Http2 | Protocol::Grpc => Wanted::Shared,
        _ if http1 => Wanted::Http1,
        _ => Wanted::Shared,
    }
}

fn declared_length(request: &Request<Body>) -> u64 {
    let length = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

/// Tells the other proxy what the client spoke, where the hop does not show it.
fn mark(request: &mut Request<Body>) {
    let version = match request.version() {
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        _ => return,
    };
    request
        .headers_mut()
        .insert(head::CLIENT_VERSION, HeaderValue::from_static(version));
}
