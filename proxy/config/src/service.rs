//! A service as one client namespace sees it: its ports, their rules in order of precedence, and the
//! backends that the rules lead to.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use crate::backend::Backend;
use crate::filter::HttpFilter;
use crate::path::{self, BadPath};
use crate::protocol::Protocol;
use crate::route::{HttpMatch, RequestView};
use crate::traffic::TrafficPolicy;

/// A service, whole.
#[derive(Debug)]
pub struct Service {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// How requests to its own endpoints are treated. Requests that a rule sends elsewhere follow the
    /// policy of the backend's service, which is in the backend's snapshot.
    pub policy: Arc<TrafficPolicy>,
}

impl Service {
    /// Its port `port`.
    pub fn port(&self, port: u16) -> Option<&Port> {
        self.ports.iter().find(|p| p.port == port)
    }
}

/// One port of a service.
#[derive(Debug)]
pub struct Port {
    /// The number.
    pub port: u16,
    /// The name, often empty.
    pub name: Arc<str>,
    /// What it speaks.
    pub protocol: Protocol,
    /// A route leads here, even if all of its rules were dropped: it is HTTP.
    pub routed: bool,
    /// In order of precedence.
    pub rules: Vec<HttpRule>,
    /// The service's own endpoints at this port.
    pub own: Arc<Backend>,
}

/// Where a request goes at a port.
#[derive(Debug)]
pub enum RouteOutcome<'a> {
    /// The first rule that matches.
    Rule(&'a HttpRule),
    /// There are no routes: to [`Port::own`].
    NoRoutes,
    /// There are routes and none matches: 404.
    NoMatch,
    /// There are routes and the path cannot be read safely: 400.
    BadPath(BadPath),
}

impl Port {
    /// The first rule that matches, over the normalised path.
    pub fn route(&self, request: &RequestView<'_>) -> RouteOutcome<'_> {
        if !self.routed {
            return RouteOutcome::NoRoutes;
        }
        let normalised = match path::normalize(request.path) {
            Ok(normalised) => normalised,
            Err(bad) => return RouteOutcome::BadPath(bad),
        };
        self.rules
            .iter()
            .find(|rule| rule.matches.matches(request, &normalised))
            .map_or(RouteOutcome::NoMatch, RouteOutcome::Rule)
    }
}

/// A rule: what it matches, what it does, where it leads.
#[derive(Debug)]
pub struct HttpRule {
    /// `HTTPRoute/namespace/name/rule`, for records.
    pub name: Arc<str>,
    /// What it matches.
    pub matches: HttpMatch,
    /// What it does, in order.
    pub filters: Vec<HttpFilter>,
    /// Of the whole request, retries included; None: the policy's; zero: no limit.
    pub request_timeout: Option<Duration>,
    /// Of one attempt; None or zero: no limit but the request's.
    pub backend_timeout: Option<Duration>,
    backends: Vec<WeightedBackend>,
    total_weight: u64,
}

impl HttpRule {
    /// A rule without timeouts; weights are summed here.
    pub fn new(
        name: impl Into<Arc<str>>,
        matches: HttpMatch,
        filters: Vec<HttpFilter>,
        backends: Vec<WeightedBackend>,
    ) -> Self {
        let total_weight = backends.iter().map(|b| u64::from(b.weight)).sum();
        Self {
            name: name.into(),
            matches,
            filters,
            request_timeout: None,
            backend_timeout: None,
            backends,
            total_weight,
        }
    }

    /// Where it leads.
    pub fn backends(&self) -> &[WeightedBackend] {
        &self.backends
    }

    /// The backend of one request, by weight. None: there are none, or all weigh nothing: 500.
    pub fn pick(&self, rng: &mut impl Rng) -> Option<&WeightedBackend> {
        if self.total_weight == 0 {
            return None;
        }
        if let [only] = self.backends.as_slice() {
            return Some(only);
        }
        let mut point = rng.random_range(0..self.total_weight);
        self.backends.iter().find(|backend| {
            let weight = u64::from(backend.weight);
            let here = point < weight;
            point = point.saturating_sub(weight);
            here
        })
    }
}

/// One of the places a rule leads to.
#[derive(Debug)]
pub struct WeightedBackend {
    /// Share of requests; 0: none.
    pub weight: u32,
    /// The place.
    pub target: WeightedBackendTarget,
    /// What is done to the requests that go there, after the rule's own filters.
    pub filters: Vec<HttpFilter>,
}

/// A backend or the reason why there is none.
#[derive(Debug)]
pub enum WeightedBackendTarget {
    /// It exists.
    Backend(Arc<Backend>),
    /// This share of requests is answered 500 (gRPC UNAVAILABLE); the reason is for the record.
    Invalid(Arc<str>),
}

#[cfg(test)]
mod tests;
