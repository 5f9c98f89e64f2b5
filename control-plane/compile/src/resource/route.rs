//! The rules within a `Service`.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use weft_model::{HeaderModifier, PathModifier, Rewrite};

use super::readable;

/// One match of one rule. A rule with several matches gives several of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpRule {
    /// `KIND/namespace/name/RULE`, the rule by name or else by position.
    pub name: Arc<str>,
    /// When it applies.
    #[serde(rename = "match")]
    pub matches: HttpMatch,
    /// What is done to the request and its response. At most one per kind; never both a redirect
    /// and a rewrite.
    #[serde(skip_serializing_if = "readable::nothing")]
    pub filters: Arc<[HttpFilter]>,
    /// Where requests go, by weight. Empty only with a redirect.
    #[serde(skip_serializing_if = "readable::nothing")]
    pub backends: Arc<[WeightedBackend]>,
    /// For the whole request, retries included. Zero: no limit.
    #[serde(
        serialize_with = "readable::duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub request_timeout: Option<Duration>,
    /// For one attempt. Zero: no limit.
    #[serde(
        serialize_with = "readable::duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub backend_timeout: Option<Duration>,
}

/// All parts must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpMatch {
    /// The path.
    pub path: PathMatch,
    /// Headers, names in lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<ValueMatch>,
    /// Query parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<ValueMatch>,
    /// The method; `None`: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Arc<str>>,
}

/// How a path is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PathMatch {
    /// Equal.
    Exact(Arc<str>),
    /// By path elements; without a trailing slash but for `/` itself, which matches everything.
    Prefix(Arc<str>),
    /// The whole path matches this expression. Made only for a gRPC method without a service.
    Regex(Arc<str>),
}

/// A name and its exact value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ValueMatch {
    /// Name.
    pub name: Arc<str>,
    /// Value.
    pub value: Arc<str>,
}

/// What is done to a request or its response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum HttpFilter {
    /// Changes the request's headers.
    RequestHeaders(HeaderModifier),
    /// Changes the response's headers.
    ResponseHeaders(HeaderModifier),
    /// Answers with a redirect.
    Redirect(Redirect),
    /// Rewrites host or path.
    Rewrite(Rewrite),
}

/// A redirect; `None` keeps what the request has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// Host.
    pub hostname: Option<Arc<str>>,
    /// Path.
    pub path: Option<PathModifier>,
    /// Port.
    pub port: Option<u16>,
    /// Status, 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// A share of a rule's requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightedBackend {
    /// The share; the sum over a rule fits an `u32`.
    pub weight: u32,
    /// Where it goes; `Err`: answered 500, with the reason for the record.
    #[serde(serialize_with = "readable::backend")]
    pub target: Result<Backend, Arc<str>>,
    /// Header modifiers for this share only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpFilter>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Port of the service.
    pub port: u16,
}
