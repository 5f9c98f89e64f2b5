//! `Authorization`: one policy, compiled.

use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;
pub use weft_model::Action;

/// One policy, `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authorization {
    /// What it does.
    pub action: Action,
    /// It matches when one of these does.
    pub rules: Vec<AuthorizationRule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthorizationRule {
    /// Its name or else its position, for decision IDs.
    pub name: Arc<str>,
    /// When it matches.
    pub condition: Condition,
}

/// A condition, evaluated in three-valued logic by the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Condition {
    /// All hold; true when empty.
    All(Vec<Condition>),
    /// One holds; false when empty.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// The peer's SPIFFE ID.
    Principal(StringMatch),
    /// The peer's namespace.
    Namespace(StringMatch),
    /// The peer's service account.
    ServiceAccount {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
    },
    /// The peer's address.
    SourceIp(IpNet),
    /// The port on the pod.
    Port(u16),
    /// The method.
    Method(StringMatch),
    /// The normalised path.
    Path(StringMatch),
    /// The host, without port.
    Host(StringMatch),
    /// A header.
    Header {
        /// Its name in lower case.
        name: Arc<str>,
        /// Its value.
        value: StringMatch,
    },
}

/// How a text is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum StringMatch {
    /// Equal.
    Exact(Arc<str>),
    /// Begins with.
    Prefix(Arc<str>),
    /// Ends with.
    Suffix(Arc<str>),
    /// Is there and not empty.
    Present,
}
