//! Answers that the proxy makes itself: one place for their status, their headers and their gRPC form.
//!
//! Input: what went wrong. Output: an answer that says so to people (a line of text), to programs
//! (`weft-response-flag`) and, for gRPC, in trailers-only form (HTTP 200 with `grpc-status`).

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use weft_proxy_config::DecisionId;
use weft_proxy_telemetry::Flag;

use crate::body::Body;
use crate::head;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Why the proxy answers and what it says.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) flag: Flag,
    /// For people: what happened and to whom.
    pub(crate) message: String,
    /// The policy that refused.
    pub(crate) decision: Option<DecisionId>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, flag: Flag, message: impl Into<String>) -> Self {
        Self {
            status,
            flag,
            message: message.into(),
            decision: None,
        }
    }

    pub(crate) fn denied(decision: DecisionId) -> Self {
        Self {
            decision: Some(decision),
            ..Self::new(StatusCode::FORBIDDEN, Flag::Denied, "refused by policy")
        }
    }

    /// The gRPC status that says the same (grpc/doc/http-grpc-status-mapping.md, but a deadline is a deadline).
    pub(crate) fn grpc_status(&self) -> u8 {
        match (self.flag, self.status.as_u16()) {
            (Flag::Timeout, _) => 4,
            (Flag::InvalidBackend, _) => 14,
            (_, 401) => 16,
            (_, 403) => 7,
            (_, 404) => 12,
            (_, 429 | 502 | 503 | 504) => 14,
            (_, 400..500) => 13,
            _ => 2,
        }
    }

    /// The answer, in the form that the client understands.
    pub(crate) fn into_response(self, grpc: bool) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        if grpc {
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(
                GRPC_STATUS,
                HeaderValue::from(u16::from(self.grpc_status())),
            );
            if let Ok(message) = HeaderValue::from_str(&percent_encoded(&self.message)) {
                headers.insert(GRPC_MESSAGE, message);
            }
        } else {
            *response.status_mut() = self.status;
            response.headers_mut().insert(
                CONTENT_TYPE,
                HeaderValue::from_static("text/plain; charset=utf-8"),
            );
            *response.body_mut() = Body::full(Bytes::from(format!("weft: {}\n", self.message)));
        }
        let headers = response.headers_mut();
        headers.insert(
            head::RESPONSE_FLAG,
            HeaderValue::from_static(self.flag.as_str()),
        );
        if let Some(decision) = self.decision
            && let Ok(decision) = HeaderValue::from_str(&decision.to_string())
        {
            headers.insert(head::DECISION, decision);
        }
        response
    }
}

/// The largest header list taken from an HTTP/2 client, counted as RFC 9113 6.5.2 does. HTTP/1 heads are bounded as they
/// are read.
const HEADER_LIST: usize = 64 * 1024;

/// Refuses what is larger than this proxy takes.
pub(crate) fn fits<B>(request: &Request<B>) -> Result<(), Failure> {
    if request.version() != Version::HTTP_2 {
        return Ok(());
    }
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |path| path.as_str().len());
    let headers = request.headers().iter();
    let size: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum();
    if target + size <= HEADER_LIST {
        return Ok(());
    }
    Err(Failure::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Flag::TooLarge,
        "the headers are too large",
    ))
}

/// `grpc-message` as gRPC wants it: printable ASCII without `%`, the rest percent-encoded.
fn percent_encoded(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The gRPC status that headers or trailers carry.
pub(crate) fn grpc_status_of(headers: &http::HeaderMap) -> Option<u8> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.trim().parse().ok()
}
