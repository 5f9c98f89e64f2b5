//! `HTTPRoute` and `GRPCRoute` (Gateway API v1.6), in one shape: they differ in their matches only.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

/// An `HTTPRoute`.
pub type HttpRoute = Route<HttpMatch>;
/// A `GRPCRoute`.
pub type GrpcRoute = Route<GrpcMatch>;

/// A route whose rules match by `M`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route<M> {
    /// `parentRefs`.
    pub parents: Vec<ParentRef>,
    /// `hostnames`.
    pub hostnames: Vec<Arc<str>>,
    /// `rules`, in their order: position `i` is `spec.rules[i]`.
    pub rules: Vec<Rule<M>>,
}

impl<M> Default for Route<M> {
    fn default() -> Self {
        Self {
            parents: Vec::new(),
            hostnames: Vec::new(),
            rules: Vec::new(),
        }
    }
}

/// What a route attaches to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParentRef {
    /// API group, empty for core. Defaults to the Gateway API's where the user left it out.
    pub group: Arc<str>,
    /// Kind; defaults to `Gateway`.
    pub kind: Arc<str>,
    /// Namespace; the route's own where `None`.
    pub namespace: Option<Arc<str>>,
    /// Name.
    pub name: Arc<str>,
    /// `sectionName`: for a Service, the name of a port.
    pub section_name: Option<Arc<str>>,
    /// `port`.
    pub port: Option<u16>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule<M> {
    /// `name`.
    pub name: Option<Arc<str>>,
    /// `matches`; any of them suffices, none matches everything.
    pub matches: Vec<M>,
    /// `filters`.
    pub filters: Vec<Filter>,
    /// `backendRefs`.
    pub backends: Vec<Backend>,
    /// `timeouts`.
    pub timeouts: Timeouts,
}

impl<M> Default for Rule<M> {
    fn default() -> Self {
        Self {
            name: None,
            matches: Vec::new(),
            filters: Vec::new(),
            backends: Vec::new(),
            timeouts: Timeouts::default(),
        }
    }
}

/// One match of an HTTPRoute: all its parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HttpMatch {
    /// `path`; `None` is prefix `/`.
    pub path: Option<PathMatch>,
    /// `headers`.
    pub headers: Vec<ValueMatch>,
    /// `queryParams`.
    pub query: Vec<ValueMatch>,
    /// `method`, as sent on the wire (`GET`).
    pub method: Option<Arc<str>>,
}

/// One match of a GRPCRoute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GrpcMatch {
    /// `method`.
    pub method: Option<MethodMatch>,
    /// `headers`.
    pub headers: Vec<ValueMatch>,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum MatchKind {
    /// Equal.
    #[default]
    Exact,
    /// A regular expression. Compile refuses it by name.
    RegularExpression,
}

/// `path` of a match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PathMatch {
    /// The whole path.
    Exact(Arc<str>),
    /// A prefix by path elements: `/a` matches `/a` and `/a/b`, not `/ab`.
    Prefix(Arc<str>),
    /// A regular expression. Compile refuses it by name.
    RegularExpression(Arc<str>),
}

/// gRPC service and method; at least one is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MethodMatch {
    /// How both are compared.
    pub kind: MatchKind,
    /// `service`, with its package.
    pub service: Option<Arc<str>>,
    /// `method`.
    pub method: Option<Arc<str>>,
}

/// A header or query parameter and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ValueMatch {
    /// How the value is compared.
    pub kind: MatchKind,
    /// The name; headers ignore case, query parameters do not.
    pub name: Arc<str>,
    /// The value.
    pub value: Arc<str>,
}

/// One filter of a rule or a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Filter {
    /// `RequestHeaderModifier`.
    RequestHeaders(HeaderModifier),
    /// `ResponseHeaderModifier`.
    ResponseHeaders(HeaderModifier),
    /// `RequestRedirect`.
    Redirect(Redirect),
    /// `URLRewrite`.
    Rewrite(Rewrite),
    /// A type that Weft does not do, as written (`RequestMirror`, `CORS`, `ExtensionRef`, …).
    Unsupported(Arc<str>),
}

/// `set`, `add` and `remove` of headers, applied in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderModifier {
    /// Replaces all values.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Appends a value.
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// Removes all values.
    pub remove: Vec<Arc<str>>,
}

/// `requestRedirect`: `None` keeps what the request has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// `scheme`.
    pub scheme: Option<Arc<str>>,
    /// `hostname`.
    pub hostname: Option<Arc<str>>,
    /// `path`.
    pub path: Option<PathModifier>,
    /// `port`.
    pub port: Option<u16>,
    /// `statusCode`; 302 where the user left it out.
    pub status: Option<u16>,
}

/// `urlRewrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rewrite {
    /// `hostname`.
    pub hostname: Option<Arc<str>>,
    /// `path`.
    pub path: Option<PathModifier>,
}

/// How a path is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PathModifier {
    /// The whole path.
    ReplaceFullPath(Arc<str>),
    /// The part that a prefix match matched.
    ReplacePrefixMatch(Arc<str>),
}

/// One of `backendRefs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// API group, empty for core (the default).
    pub group: Arc<str>,
    /// Kind; defaults to `Service`.
    pub kind: Arc<str>,
    /// Namespace; the route's own where `None`.
    pub namespace: Option<Arc<str>>,
    /// Name.
    pub name: Arc<str>,
    /// `port`.
    pub port: Option<u16>,
    /// `weight`, 1 where the user left it out. Not yet checked.
    pub weight: i64,
    /// Filters for this backend only.
    pub filters: Vec<Filter>,
}

/// `timeouts` of a rule. Zero switches a timeout off; `None` leaves it to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// `request`: the whole of it, retries included.
    pub request: Option<Duration>,
    /// `backendRequest`: one try.
    pub backend_request: Option<Duration>,
}
