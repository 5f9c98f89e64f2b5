//! The parts that the rules of HTTPRoute and GRPCRoute share: filters, backends, timeouts.
//!
//! The generated Gateway API types spell the same shape four times (rule and backend filters of
//! two kinds). Here it stands once; a typed route is taken over through its JSON form.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A rule without its matches.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteRule {
    /// `name`.
    pub name: Option<String>,
    /// `filters`.
    pub filters: Vec<RouteFilter>,
    /// `backendRefs`.
    pub backend_refs: Vec<BackendRef>,
    /// `timeouts` (HTTPRoute only).
    pub timeouts: RouteTimeouts,
}

/// One filter. Of the fields below `type`, the one that the type names is meant to be there.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteFilter {
    /// `type`, as written.
    pub r#type: String,
    /// `requestHeaderModifier`.
    pub request_header_modifier: Option<HeaderModifier>,
    /// `responseHeaderModifier`.
    pub response_header_modifier: Option<HeaderModifier>,
    /// `requestRedirect`.
    pub request_redirect: Option<Redirect>,
    /// `urlRewrite`.
    pub url_rewrite: Option<UrlRewrite>,
}

/// Headers that are set, added and removed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct HeaderModifier {
    /// Headers whose values are replaced.
    pub set: Vec<Header>,
    /// Headers that get one value more.
    pub add: Vec<Header>,
    /// Names of headers that are removed.
    pub remove: Vec<String>,
}

/// A header and its value.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Header {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// `requestRedirect`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host of the new location.
    pub hostname: Option<String>,
    /// The path of the new location.
    pub path: Option<PathModifier>,
    /// The port of the new location.
    pub port: Option<i32>,
    /// The status of the answer.
    pub status_code: Option<i64>,
}

/// `urlRewrite`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct UrlRewrite {
    /// The new host.
    pub hostname: Option<String>,
    /// The new path.
    pub path: Option<PathModifier>,
}

/// How a path is replaced.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathModifier {
    /// `ReplaceFullPath` or `ReplacePrefixMatch`.
    pub r#type: String,
    /// The whole new path.
    pub replace_full_path: Option<String>,
    /// What the matched prefix becomes.
    pub replace_prefix_match: Option<String>,
}

/// Where requests go.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct BackendRef {
    /// API group, "" when left out.
    pub group: Option<String>,
    /// Kind, `Service` when left out.
    pub kind: Option<String>,
    /// Name.
    pub name: String,
    /// Namespace, the route's when left out.
    pub namespace: Option<String>,
    /// Port.
    pub port: Option<i32>,
    /// Its share of the requests, 1 when left out.
    pub weight: Option<i32>,
    /// `filters` of this backend.
    pub filters: Vec<RouteFilter>,
}

/// `timeouts`, as written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteTimeouts {
    /// The whole request.
    pub request: Option<String>,
    /// One attempt.
    pub backend_request: Option<String>,
}

/// The rules of a typed route, given its `spec.rules`. They are its own in another type, so an
/// error means that this module does not follow the generated types.
pub fn route_rules<T: Serialize>(
    rules: &Option<Vec<T>>,
) -> Result<Vec<RouteRule>, serde_json::Error> {
    match serde_json::to_value(rules)? {
        Value::Null => Ok(Vec::new()),
        rules => serde_json::from_value(rules),
    }
}
