//! What a proxy knows and decides: validated policy, compiled matchers, the decision functions and
//! the [`Store`] that holds the active state.
//!
//! Plain, validated input goes in through the constructors of this crate (they compile regexes, parse
//! names, sum weights, and name the field that is wrong); decisions come out: where an address leads,
//! which rule a request takes, which endpoint gets it, whether a peer may. It knows no protobuf and
//! does no I/O; the stream client (`weft-proxy-xds`) is the one writer, all workers read.
//!
//! The order of use on the outbound path: [`Store::resolve`] → [`Port::route`] → [`HttpRule::pick`] →
//! [`balance::pick`]; on the inbound path: [`Store::inbound`] → [`Inbound::port`] →
//! [`Inbound::authorize_handshake`] → [`Inbound::authorize_request`] or
//! [`Inbound::authorize_connection`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod authorization;
mod backend;
pub mod balance;
mod budget;
mod decision;
mod endpoint;
mod filter;
mod inbound;
mod invalid;
mod limits;
mod mesh;
mod outlier;
pub mod path;
mod protocol;
mod route;
mod service;
mod store;
mod traffic;

pub use authorization::{Action, Condition, Policy, PolicyRule, StringMatch};
pub use backend::{Backend, BackendKey, BackendSnapshot, BackendState, Target};
pub use budget::RetryBudget;
pub use decision::{Decision, DecisionId};
pub use endpoint::{Endpoint, EndpointPort, EndpointState, InFlight};
pub use filter::{HeaderModifier, HttpFilter, PathRewrite, Redirect, Rewrite, Scheme};
pub use inbound::{Inbound, InboundPort, Peer, PolicyBinding};
pub use invalid::Invalid;
pub use limits::{Overloaded, Permit};
pub use mesh::{MeshConfig, OutboundPolicy};
pub use protocol::{Locality, MtlsMode, Protocol};
pub use route::{HeaderMatch, HttpMatch, PathMatch, QueryMatch, RequestView, ValueMatch};
pub use service::{HttpRule, Port, RouteOutcome, Service, WeightedBackend, WeightedBackendTarget};
pub use store::{
    AddressTarget, RefusedReason, Resolution, ServiceCell, ServiceName, Store, StoreLimits, Unused,
    Writer,
};
pub use traffic::{
    Balancing, ConnectionLimits, OutlierDetection, RetryOn, RetryPolicy, TrafficPolicy,
};
