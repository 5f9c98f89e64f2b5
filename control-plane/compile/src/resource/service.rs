//! `Service`: a service as clients of one namespace see it.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::readable;
use super::route::HttpRule;
use super::traffic_policy::TrafficPolicy;

/// One service, as seen by the clients of one namespace or by all that have no routes of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Virtual addresses, ascending.
    pub addresses: Vec<IpAddr>,
    /// TCP ports, ascending.
    pub ports: Vec<Port>,
    /// `Endpoints` resources are `namespace/name/0` to `buckets - 1`; at least 1.
    pub buckets: u32,
    /// How clients treat it; `None`: by the proxy's defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<Arc<TrafficPolicy>>,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    /// The number.
    pub port: u16,
    /// The name; may be empty.
    pub name: Arc<str>,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Rules in order of precedence.
    #[serde(skip_serializing_if = "readable::nothing")]
    pub rules: Arc<[HttpRule]>,
    /// A route is attached, even if none of its rules could be used: no match is then a 404.
    pub routed: bool,
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Protocol {
    /// The proxy finds out per connection.
    #[default]
    Detect,
    /// HTTP/1.1 or HTTP/2.
    Http,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// Opaque bytes.
    Tcp,
    /// TLS of the application's own.
    Tls,
}

impl Protocol {
    /// Whether requests can be told apart.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(
            self,
            Protocol::Http | Protocol::Http1 | Protocol::Http2 | Protocol::Grpc
        )
    }
}
