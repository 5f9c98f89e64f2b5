//! What came and was no request: the HTTP/1 codec has answered it with 400 or 431 and ended its connection. No phase ever
//! saw it, but it has a record like every other.

use std::net::SocketAddr;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use weft_identity::SpiffeId;
use weft_proxy_telemetry::{Direction, Flag, RequestProtocol, RequestRecord, ServiceLabel};

use crate::worker::Worker;

/// Who sent it, and to whom.
pub(crate) struct From<'a> {
    pub(crate) direction: Direction,
    pub(crate) address: SocketAddr,
    pub(crate) identity: Option<&'a SpiffeId>,
    pub(crate) destination: Option<ServiceLabel>,
}

/// Records the end of an HTTP/1 connection, if it was for a head that nobody could read. Neither its method nor its path
/// is known: they stand as `-` and `*`.
pub(crate) fn record(worker: &Worker, from: From<'_>, error: &hyper::Error) {
    if !error.is_parse() {
        return;
    }
    let (flag, status) = match error.is_parse_too_large() {
        true => (Flag::TooLarge, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        false => (Flag::BadRequest, StatusCode::BAD_REQUEST),
    };
    let mut record = RequestRecord::new(
        from.direction,
        RequestProtocol::Http1,
        Method::from_bytes(b"-").unwrap_or_default(),
        PathAndQuery::from_static("*"),
        from.address,
        worker.telemetry.trace(&HeaderMap::new()),
    );
    record.ended = Some(record.started);
    record.status = status.as_u16();
    record.flag = Some(flag);
    record.source = from.identity.cloned();
    record.mtls = from.identity.is_some();
    record.destination = from.destination;
    let log = worker.store.mesh().access_log;
    worker.telemetry.record(record, log);
}
