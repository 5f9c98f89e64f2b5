//! One exchange, from the head of its request to the last byte of its answer: what it holds meanwhile (places
//! under limits) and the one record of it, consumed once.
//!
//! The record is consumed when the answer has ended. What is dropped before that was cancelled: the client is gone.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use weft_proxy_config::{Backend, InFlight, Permit, Target};
use weft_proxy_telemetry::{Direction, Flag, RequestProtocol, RequestRecord, WorkerTelemetry};

use crate::attempt::{self, Ended};
use crate::body::{Body, BodyError, Upload};
use crate::failure::{Failure, grpc_status_of};
use crate::head;
use crate::sent::SendError;
use crate::upstream::Aim;

/// An exchange under way.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Taken when it is consumed.
    record: Option<RequestRecord>,
    telemetry: Rc<WorkerTelemetry>,
    log: bool,
    pub(crate) grpc: bool,
    /// How far the request's body has come; none where it has no body.
    pub(crate) upload: Option<Rc<Upload>>,
    pub(crate) held: Held,
}

/// Places under limits, given back at the end; and the endpoint whose answer is judged by its end.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) request: Option<Permit>,
    pub(crate) in_flight: Option<InFlight>,
    /// A gRPC answer tells in its trailers how it went.
    pub(crate) unjudged: Option<(Arc<Backend>, Target)>,
    pub(crate) place: Option<crate::worker::Place>,
}

impl Exchange {
    /// Begins the record. The request's headers are as they arrived.
    pub(crate) fn begin(
        telemetry: &Rc<WorkerTelemetry>,
        log: bool,
        direction: Direction,
        source: std::net::SocketAddr,
        request: &Request<Body>,
    ) -> Box<Self> {
        let grpc = head::is_grpc(request.headers());
        let protocol = match request.version() {
            _ if grpc => RequestProtocol::Grpc,
            Version::HTTP_2 => RequestProtocol::Http2,
            _ => RequestProtocol::Http1,
        };
        let path = request
            .uri()
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
        let trace = telemetry.trace(request.headers());
        let record = RequestRecord::new(
            direction,
            protocol,
            request.method().clone(),
            path,
            source,
            trace,
        );
        Box::new(Self {
            record: Some(record),
            telemetry: telemetry.clone(),
            log,
            grpc,
            upload: (!request.body().is_end_stream()).then(Rc::default),
            held: Held::default(),
        })
    }

    /// The record, to be filled.
    pub(crate) fn record(&mut self) -> &mut RequestRecord {
        self.record
            .as_mut()
            .expect("consumed only together with the exchange")
    }

    /// Begins an attempt at an endpoint.
    pub(crate) fn attempt(&mut self, aim: &Aim) {
        self.held.in_flight = aim.begin();
        self.held.unjudged = aim.target.clone();
        let record = self.record();
        record.attempts = record.attempts.saturating_add(1);
        record.peer = Some(aim.addr);
        record.mtls = aim.is_mesh();
        record.peer_workload = aim
            .target
            .as_ref()
            .map(|(_, target)| target.endpoint.workload.clone());
    }

    /// Tells the endpoint's circuit how the attempt ended. `to_come`: a gRPC answer says so in its trailers only.
    pub(crate) fn judge(&mut self, ended: Ended, to_come: bool) {
        if self.grpc && to_come && matches!(ended, Ended::Answered(_, None)) {
            return;
        }
        let Some((backend, target)) = self.held.unjudged.take() else {
            return;
        };
        // What a limit of our own stopped says nothing of the endpoint, nor does a client that left.
        if matches!(
            ended,
            Ended::Overloaded
                | Ended::Sent(
                    SendError::ClientGone
                        | SendError::Undelivered
                        | SendError::Stale
                        | SendError::Unsendable
                )
        ) {
            return;
        }
        judge(&backend, &target, !attempt::is_fault(ended));
    }

    /// Ends with an answer of the proxy's own.
    pub(crate) fn fail(mut self: Box<Self>, failure: Failure) -> Response<Tracked> {
        let record = self.record();
        record.flag = Some(failure.flag);
        record.decision = failure
            .decision
            .as_ref()
            .map(weft_proxy_config::DecisionId::shared);
        if self.grpc {
            self.record().grpc_status = Some(failure.grpc_status());
        }
        let response = failure.into_response(self.grpc);
        self.answer(response)
    }

    /// Ends with this answer, whose body is still to come.
    pub(crate) fn answer(mut self: Box<Self>, response: Response<Body>) -> Response<Tracked> {
        let (mut parts, body) = response.into_parts();
        // The version is the client's connection's, whatever the peer spoke.
        parts.version = Version::HTTP_11;
        let grpc = self.grpc;
        let record = self.record();
        record.status = parts.status.as_u16();
        if grpc {
            record.grpc_status = grpc_status_of(&parts.headers).or(record.grpc_status);
        }
        let mut tracked = Tracked {
            body,
            exchange: Some(self),
        };
        if tracked.body.is_end_stream() {
            tracked.finish();
        }
        Response::from_parts(parts, tracked)
    }

    /// Ends as the record has it.
    pub(crate) fn ended(mut self: Box<Self>) {
        self.consume();
    }

    /// Ends without an answer.
    pub(crate) fn unanswered(mut self: Box<Self>, flag: Flag) {
        self.record().flag = Some(flag);
        self.consume();
    }

    fn consume(&mut self) {
        let Some(mut record) = self.record.take() else {
            return;
        };
        record.ended = Some(Instant::now());
        if let Some(upload) = &self.upload {
            record.request_bytes = upload.bytes.get();
        }
        if let Some((backend, target)) = self.held.unjudged.take() {
            judge(&backend, &target, !record.failed());
        }
        self.telemetry.record(record, self.log);
    }
}

fn judge(backend: &Backend, target: &Target, well: bool) {
    let now = tokio::time::Instant::now().into_std();
    if well {
        backend.on_success(target, now);
    } else {
        backend.on_failure(target, now);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(record) = &mut self.record {
            record.flag.get_or_insert(Flag::ClientGone);
            // Nobody can tell how it would have gone on.
            self.held.unjudged = None;
        }
        self.consume();
    }
}

/// The body of an answer, which carries its exchange to the end.
#[derive(Debug)]
pub(crate) struct Tracked {
    body: Body,
    exchange: Option<Box<Exchange>>,
}

impl Tracked {
    fn finish(&mut self) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.consume();
        }
    }

    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        let ended = frame.is_none() || self.body.is_end_stream();
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        match frame {
            Some(Ok(frame)) => {
                let data = frame.data_ref().map_or(0, Bytes::len) as u64;
                let trailers = frame.trailers_ref().and_then(status_in);
                let record = exchange.record();
                record.response_bytes += data;
                record.grpc_status = trailers.or(record.grpc_status);
            }
            Some(Err(_)) => exchange.record().flag = Some(Flag::UpstreamGone),
            None => {}
        }
        if ended || matches!(frame, Some(Err(_))) {
            self.finish();
        }
    }
}

fn status_in(trailers: &HeaderMap) -> Option<u8> {
    grpc_status_of(trailers)
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.note(frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl From<Body> for Tracked {
    fn from(body: Body) -> Self {
        Self {
            body,
            exchange: None,
        }
    }
}
