//! A request of this pod's application, from its head to the record of it:
//!
//! accept → original destination → detect → resolve → route → limit → (balance → connect → send)* with deadline,
//! retry and breaker → record
//!
//! The phases up to detection are done once per connection, in proxy/net; [`request`] calls the others, in this order,
//! for each request. There is no hedging: an attempt follows only one that has ended.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use tokio::time::{sleep, timeout_at};
use weft_proxy_config::{
    Backend, HttpRule, Resolution, RouteOutcome, Service, WeightedBackendTarget,
};
use weft_proxy_telemetry::{Direction, Flag};

use crate::attempt::{self, Attempts, Ended, Next};
use crate::body::Body;
use crate::exchange::{Exchange, Tracked};
use crate::failure::{self, Failure};
use crate::filter;
use crate::head;
use crate::http2_server::Answer;
use crate::kept_head::KeptHead;
use crate::plan::{self, Plan};
use crate::replay::ReplayBody;
use crate::sent::SendError;
use crate::tunnel::{self, Asked};
use crate::unreadable;
use crate::upstream::{self, Aim, Asks, Fault, Sending};
use crate::worker::Worker;

/// What is known of a connection before its first request.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: SocketAddr,
    /// The address that was dialled: it decides where requests go, never their `Host`.
    pub(crate) destination: SocketAddr,
    /// What was behind it when the connection began.
    pub(crate) resolution: Resolution,
    /// What becomes of the connection after a request that left HTTP.
    pub(crate) tunnel: tunnel::Slot,
}

/// One connection's requests share what is known of it.
pub(crate) type Shared = Rc<Connection>;

/// One request, all phases.
pub(crate) async fn request(
    worker: &Worker,
    conn: &Connection,
    request: Request<Body>,
) -> Answer<Tracked> {
    let (mut exchange, mut request, asks) = accept(worker, conn, request);
    let known = resolve(worker, conn);
    let routed =
        check(&mut request).and_then(|()| route(worker, conn, &known, &mut exchange, &mut request));
    let plan = match routed {
        Ok(Routed::Plan(plan)) => plan,
        Ok(Routed::Answer(response)) => return Answer::Response(exchange.answer(response)),
        Err(failure) => return Answer::Response(exchange.fail(failure)),
    };
    if let Err(failure) = limit(&plan, &mut exchange) {
        return Answer::Response(exchange.fail(failure));
    }
    exchange.record().trace.inject(request.headers_mut());
    let mut outgoing = Some(request);
    let sent = {
        // Pinned in place: moved into the timeout it would take its room twice.
        let mut sending = pin!(attempts(worker, &plan, &mut exchange, &mut outgoing, &asks,));
        match plan.deadline {
            None => sending.await,
            Some(deadline) => match timeout_at(deadline.into(), &mut sending).await {
                Ok(sent) => sent,
                Err(_) => Err(Fault::Deadline),
            },
        }
    };
    record(conn, &plan, exchange, sent, asks.leave)
}

/// Begins the record; takes off what belongs to the connection and what only Weft may say.
fn accept(
    worker: &Worker,
    conn: &Connection,
    mut request: Request<Body>,
) -> (Box<Exchange>, Request<Body>, Asks) {
    let log = worker.store.mesh().access_log;
    let mut exchange = Exchange::begin(
        &worker.telemetry,
        log,
        Direction::Outbound,
        conn.client,
        &request,
    );
    let arrived = head::arrive(request.headers_mut());
    let asks = Asks {
        leave: Asked::of(&mut request, arrived.upgrade),
        go_on: arrived.expects && exchange.upload.is_some(),
    };
    exchange.record().authority = head::host_value(&request);
    (exchange, request, asks)
}

/// What is behind the address, as of now.
enum Known {
    Service(Arc<Service>, u16),
    Workload(Arc<Backend>),
    Passthrough,
    Refused(Failure),
}

/// What the connection was resolved to may have changed since; and asking keeps it subscribed to.
fn resolve(worker: &Worker, conn: &Connection) -> Known {
    let now = worker.store.resolved(conn.destination);
    match now.as_ref().unwrap_or(&conn.resolution) {
        Resolution::Service { service, port } => Known::Service(Arc::clone(&service.load()), *port),
        Resolution::Workload(backend) => Known::Workload(backend.clone()),
        Resolution::Passthrough => Known::Passthrough,
        Resolution::Refused(reason) => {
            let flag = match reason {
                weft_proxy_config::RefusedReason::RegistryOnly => Flag::NotInRegistry,
                _ => Flag::Unresolved,
            };
            let text = format!("{}: {reason}", conn.destination);
            Known::Refused(Failure::new(StatusCode::SERVICE_UNAVAILABLE, flag, text))
        }
    }
}

/// Who sends on this connection, where nothing but that is known.
pub(crate) fn sender(conn: &Connection) -> unreadable::From<'_> {
    let own = match &conn.resolution {
        Resolution::Service { service, port } => {
            let service = service.load();
            service.port(*port).map(|port| plan::label(&port.own))
        }
        Resolution::Workload(backend) => Some(plan::label(backend)),
        Resolution::Passthrough | Resolution::Refused(_) => None,
    };
    unreadable::From {
        direction: Direction::Outbound,
        address: conn.client,
        identity: None,
        destination: own,
    }
}

/// Refuses what is too large to be taken from a client, and what two readers could understand differently.
fn check(request: &mut Request<Body>) -> Result<(), Failure> {
    failure::fits(request)?;
    head::one_host(request)
        .map_err(|what| Failure::new(StatusCode::BAD_REQUEST, Flag::BadRequest, what))
}

enum Routed<'a> {
    Plan(Plan<'a>),
    Answer(Response<Body>),
}

/// Chooses rule and backend, and applies the rule's filters.
fn route<'a>(
    worker: &Worker,
    conn: &Connection,
    known: &'a Known,
    exchange: &mut Exchange,
    request: &mut Request<Body>,
) -> Result<Routed<'a>, Failure> {
    let (service, port) = match known {
        Known::Service(service, port) => (service, *port),
        Known::Workload(backend) => {
            exchange.record().destination = Some(plan::label(backend));
            return Ok(Routed::Plan(Plan::direct(upstream::To::Backend(backend))));
        }
        Known::Passthrough => {
            return Ok(Routed::Plan(Plan::direct(upstream::To::Address(
                conn.destination,
            ))));
        }
        Known::Refused(failure) => return Err(failure.clone()),
    };
    let Some(port) = service.port(port) else {
        let text = format!("{}/{} has no port {port}", service.namespace, service.name);
        return Err(Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Flag::NoEndpoint,
            text,
        ));
    };
    exchange.record().destination = Some(plan::label(&port.own));
    let rule = match port.route(&head::view(request)) {
        RouteOutcome::NoRoutes => {
            return Ok(Routed::Plan(Plan::direct(upstream::To::Backend(&port.own))));
        }
        RouteOutcome::Rule(rule) => rule,
        RouteOutcome::NoMatch => {
            let text = format!("no route of {} matches", port.own.key);
            return Err(Failure::new(StatusCode::NOT_FOUND, Flag::NoRoute, text));
        }
        RouteOutcome::BadPath(bad) => {
            return Err(Failure::new(
                StatusCode::BAD_REQUEST,
                Flag::BadRequest,
                bad.to_string(),
            ));
        }
    };
    exchange.record().route = Some(rule.name.clone());
    apply_rule(worker, conn, rule, exchange, request)
}

fn apply_rule<'a>(
    worker: &Worker,
    conn: &Connection,
    rule: &'a HttpRule,
    exchange: &mut Exchange,
    request: &mut Request<Body>,
) -> Result<Routed<'a>, Failure> {
    let dialled = conn.destination.port();
    let matched = rule.matches.path.as_ref();
    if let Some(mut answer) = filter::on_request(&rule.filters, matched, dialled, request) {
        filter::on_response(rule, None, answer.headers_mut());
        return Ok(Routed::Answer(answer));
    }
    let invalid =
        |why: &str| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, Flag::InvalidBackend, why);
    let weighted = rule
        .pick(&mut *worker.rng.borrow_mut())
        .ok_or_else(|| invalid("the route has no backend"))?;
    let backend = match &weighted.target {
        WeightedBackendTarget::Backend(backend) => backend,
        WeightedBackendTarget::Invalid(why) => return Err(invalid(why)),
    };
    if let Some(mut answer) = filter::on_request(&weighted.filters, matched, dialled, request) {
        filter::on_response(rule, Some(weighted), answer.headers_mut());
        return Ok(Routed::Answer(answer));
    }
    exchange.record().backend = Some(plan::label(backend));
    Ok(Routed::Plan(Plan {
        to: upstream::To::Backend(backend),
        rule: Some(rule),
        weighted: Some(weighted),
        deadline: plan::deadline(rule.request_timeout, backend),
        attempt_timeout: rule.backend_timeout.filter(|timeout| !timeout.is_zero()),
    }))
}

/// The breaker: a place among the backend's requests in flight.
fn limit(plan: &Plan<'_>, exchange: &mut Exchange) -> Result<(), Failure> {
    let upstream::To::Backend(backend) = plan.to else {
        return Ok(());
    };
    let policy = backend.load();
    match backend.state.try_request(&policy.policy.limits) {
        Ok(permit) => {
            exchange.held.request = Some(permit);
            backend.state.deposit(plan::now());
            Ok(())
        }
        Err(overloaded) => {
            let text = format!("{}: {overloaded}", backend.key);
            Err(Failure::new(
                StatusCode::SERVICE_UNAVAILABLE,
                Flag::Overloaded,
                text,
            ))
        }
    }
}

/// (balance → connect → send)*: until there is an answer to give, or no further attempt.
async fn attempts(
    worker: &Worker,
    plan: &Plan<'_>,
    exchange: &mut Exchange,
    outgoing: &mut Option<Request<Body>>,
    asks: &Asks,
) -> Result<(Response<Body>, Aim), Fault> {
    let policy = plan.to.policy();
    let retries = &policy.retries;
    let Some((mut attempts, kept, body)) = outgoing.as_mut().map(|request| {
        let source = std::mem::take(request.body_mut());
        let body = ReplayBody::new(source, retries.replay_limit, &worker.settings.replay_budget);
        (
            Attempts::new(request.method(), retries),
            KeptHead::of(request),
            body,
        )
    }) else {
        return Err(Fault::NoEndpoint);
    };
    loop {
        let aim = upstream::balance(worker, plan, &attempts.tried)?;
        exchange.attempt(&aim);
        let upload = exchange.upload.as_ref();
        let this = match upload {
            Some(upload) => body.attempt().reporting(upload.clone()),
            None => Body::empty(),
        };
        match outgoing {
            Some(request) => *request.body_mut() = this,
            None => *outgoing = Some(kept.request(this)),
        }
        let sent = upstream::attempt(
            worker,
            plan,
            &policy,
            &aim,
            Sending { asks, upload },
            outgoing,
        )
        .await;
        // Whatever its codec has made of it, the next begins anew.
        *outgoing = None;
        let ended = match &sent {
            Ok(response) => attempt::answered(response, exchange.grpc),
            Err(_) if body.is_broken() => return Err(Fault::Sent(SendError::ClientGone)),
            Err(fault) => fault.ended(),
        };
        exchange.judge(
            ended,
            sent.as_ref()
                .is_ok_and(|response| !http_body::Body::is_end_stream(response.body())),
        );
        attempts.tried.push(aim.id);
        let next = attempts.next(
            ended,
            retries,
            plan.to.state(),
            body.is_replayable(),
            |tried| plan.to.has_untried(tried),
            &mut *worker.rng.borrow_mut(),
        );
        match next {
            Next::Again(pause) => {
                drop(sent);
                if !pause.is_zero() {
                    sleep(pause).await;
                }
            }
            Next::Stop { exhausted } => {
                if exhausted {
                    exchange.record().flag = Some(Flag::RetriesExhausted);
                }
                return sent.map(|response| (response, aim));
            }
        }
    }
}

/// Gives the client its answer, the application's or our own, and the record its last word.
fn record(
    conn: &Connection,
    plan: &Plan<'_>,
    mut exchange: Box<Exchange>,
    sent: Result<(Response<Body>, Aim), Fault>,
    asked: Option<Asked>,
) -> Answer<Tracked> {
    let fault = match sent {
        Ok((mut response, aim)) => {
            if let (Some(raw), Some(asked)) = (response.body_mut().take_raw(), asked) {
                return Answer::Response(conn.tunnel.join(
                    asked,
                    raw,
                    exchange,
                    response,
                    aim.is_mesh(),
                ));
            }
            head::depart(response.headers_mut(), aim.is_mesh());
            if let Some(rule) = plan.rule {
                filter::on_response(rule, plan.weighted, response.headers_mut());
            }
            return Answer::Response(exchange.answer(response));
        }
        Err(fault) => fault,
    };
    if matches!(fault, Fault::Deadline) {
        exchange.judge(Ended::TimedOut, false);
    }
    match fault.failure(plan) {
        Some(failure) => Answer::Response(exchange.fail(failure)),
        None => {
            exchange.unanswered(Flag::ClientGone);
            Answer::Reset(h2::Reason::CANCEL)
        }
    }
}
