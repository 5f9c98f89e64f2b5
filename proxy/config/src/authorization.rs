//! Authorisation policies: conditions in three-valued logic, and the policies and rules made of them.
//!
//! A condition is true, false or unknown: unknown is what cannot be read (a kind that this proxy does not
//! know) and what cannot be seen (HTTP, where the bytes are opaque). An ALLOW takes unknown as no match and
//! a DENY as a match, so that nothing unknown ever widens access (Kleene's strong logic).

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;

use crate::decision::DecisionId;
use crate::filter::header_name;
use crate::inbound::Peer;
use crate::invalid::Invalid;
use crate::path;
use crate::route::RequestView;

/// The outcome of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
    Unknown,
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// How a text is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringMatch {
    /// It is this.
    Exact(String),
    /// It begins with this.
    Prefix(String),
    /// It ends with this.
    Suffix(String),
    /// It is not empty.
    Present,
}

impl StringMatch {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Self::Present => !text.is_empty(),
        }
    }

    fn map(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Exact(text) => Self::Exact(change(text)),
            Self::Prefix(text) => Self::Prefix(change(text)),
            Self::Suffix(text) => Self::Suffix(change(text)),
            Self::Present => Self::Present,
        }
    }
}

/// A condition on a peer and its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// All hold; true when empty.
    All(Vec<Condition>),
    /// One holds; false when empty.
    Any(Vec<Condition>),
    /// The other way round.
    Not(Box<Condition>),
    /// The peer's SPIFFE ID.
    Principal(StringMatch),
    /// The namespace of the peer's identity.
    Namespace(StringMatch),
    /// The peer's service account.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The block that holds the peer's address.
    SourceIp(IpNet),
    /// The destination port on the pod.
    Port(u16),
    /// The method.
    Method(StringMatch),
    /// The path without the query, see [`Condition::path`].
    Path {
        /// Compared with the normalised path.
        normalized: StringMatch,
        /// Compared with the reading in which encoded slashes separate nothing, where there is one.
        literal: StringMatch,
    },
    /// A header; None: it is there.
    Header(HeaderName, Option<StringMatch>),
    /// The host without its port, in lower case.
    Host(StringMatch),
    /// Not readable by this proxy.
    Unreadable,
}

impl Condition {
    /// A condition on the path. An exact one is normalised, so that it can match at all. A path with encoded
    /// slashes has two readings; where they do not agree, the condition is unknown.
    pub fn path(value: StringMatch) -> Self {
        let StringMatch::Exact(exact) = value else {
            return Self::Path {
                normalized: value.clone(),
                literal: value,
            };
        };
        let normalized = path::normalize(&exact).map_or(exact.clone(), Cow::into_owned);
        let literal = path::literal(&exact).unwrap_or_else(|| normalized.clone());
        Self::Path {
            normalized: StringMatch::Exact(normalized),
            literal: StringMatch::Exact(literal),
        }
    }

    /// A condition on a header.
    ///
    /// # Errors
    /// `name` is no header name.
    pub fn header(name: &str, value: Option<StringMatch>) -> Result<Self, Invalid> {
        Ok(Self::Header(header_name(name)?, value))
    }

    /// A condition on the host; case does not matter.
    pub fn host(value: StringMatch) -> Self {
        Self::Host(value.map(|text| text.to_ascii_lowercase()))
    }

    pub(crate) fn holds(&self, peer: &Peer<'_>, request: Option<&HttpFacts<'_>>) -> Truth {
        let over = |check: &dyn Fn(&HttpFacts<'_>) -> Truth| request.map_or(Truth::Unknown, check);
        let identity = |check: &dyn Fn(&weft_identity::SpiffeId) -> bool| -> Truth {
            peer.identity.is_some_and(check).into()
        };
        match self {
            Self::All(parts) => all(parts.iter().map(|part| part.holds(peer, request))),
            Self::Any(parts) => any(parts.iter().map(|part| part.holds(peer, request))),
            Self::Not(inner) => match inner.holds(peer, request) {
                Truth::True => Truth::False,
                Truth::False => Truth::True,
                Truth::Unknown => Truth::Unknown,
            },
            Self::Principal(value) => identity(&|id| value.matches(id.as_str())),
            Self::Namespace(value) => identity(&|id| value.matches(id.namespace())),
            Self::ServiceAccount { namespace, name } => {
                identity(&|id| id.namespace() == namespace && id.service_account() == name)
            }
            Self::SourceIp(block) => block.contains(&peer.address.to_canonical()).into(),
            Self::Port(port) => (peer.port == *port).into(),
            Self::Method(value) => {
                over(&|facts| value.matches(facts.request.method.as_str()).into())
            }
            Self::Path {
                normalized,
                literal,
            } => over(&|facts| facts.path_matches(normalized, literal)),
            Self::Header(name, value) => over(&|facts| header(facts.request, name, value.as_ref())),
            Self::Host(value) => over(&|facts| value.matches(facts.host).into()),
            Self::Unreadable => Truth::Unknown,
        }
    }
}

/// What conditions on HTTP look at.
pub(crate) struct HttpFacts<'a> {
    request: &'a RequestView<'a>,
    /// Normalised; None where it has no safe reading.
    path: Option<&'a str>,
    /// Another reading of the path, if there is one.
    literal: Option<&'a str>,
    /// Lower case, without port; empty where there is none.
    host: &'a str,
}

impl<'a> HttpFacts<'a> {
    pub(crate) fn new(
        request: &'a RequestView<'a>,
        path: Option<&'a str>,
        literal: Option<&'a str>,
        host: &'a str,
    ) -> Self {
        Self {
            request,
            path,
            literal,
            host,
        }
    }

    fn path_matches(&self, normalized: &StringMatch, literal: &StringMatch) -> Truth {
        let Some(path) = self.path else {
            return Truth::Unknown;
        };
        let matches = normalized.matches(path);
        match self.literal {
            Some(other) if literal.matches(other) != matches => Truth::Unknown,
            _ => matches.into(),
        }
    }
}

/// Every value of a repeated header must agree: which of them the application reads is not known.
fn header(request: &RequestView<'_>, name: &HeaderName, value: Option<&StringMatch>) -> Truth {
    let mut values = request.headers.get_all(name).iter().map(|found| {
        let Some(value) = value else {
            return Truth::True;
        };
        found
            .to_str()
            .map_or(Truth::Unknown, |text| value.matches(text).into())
    });
    let Some(first) = values.next() else {
        return Truth::False;
    };
    if values.all(|other| other == first) {
        first
    } else {
        Truth::Unknown
    }
}

fn all(parts: impl Iterator<Item = Truth>) -> Truth {
    let mut result = Truth::True;
    for part in parts {
        match part {
            Truth::False => return Truth::False,
            Truth::Unknown => result = Truth::Unknown,
            Truth::True => {}
        }
    }
    result
}

fn any(parts: impl Iterator<Item = Truth>) -> Truth {
    let mut result = Truth::False;
    for part in parts {
        match part {
            Truth::True => return Truth::True,
            Truth::Unknown => result = Truth::Unknown,
            Truth::False => {}
        }
    }
    result
}

/// What a policy does when it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Lets in; whatever no ALLOW lets in is refused, once there is one.
    Allow,
    /// Refuses, whatever the ALLOW policies say.
    Deny,
}

/// One rule of a policy.
#[derive(Debug, Clone)]
pub struct PolicyRule {
    pub(crate) id: DecisionId,
    pub(crate) condition: Condition,
}

/// One policy at one version, shared by all workloads it applies to.
#[derive(Debug, Clone)]
pub struct Policy {
    name: Arc<str>,
    version: Arc<str>,
    action: Action,
    rules: Vec<PolicyRule>,
}

impl Policy {
    /// The policy `name` (`namespace/name`) at `version`, with its rules' names and conditions. It matches
    /// when any rule does; without rules it never does.
    pub fn new(
        name: &str,
        version: &str,
        action: Action,
        rules: impl IntoIterator<Item = (String, Condition)>,
    ) -> Self {
        let rules = rules
            .into_iter()
            .map(|(rule, condition)| PolicyRule {
                id: DecisionId::rule(name, &rule, version),
                condition,
            })
            .collect();
        Self {
            name: name.into(),
            version: version.into(),
            action,
            rules,
        }
    }

    /// In place of a policy that cannot be read and has no last good version: denies all that it guards.
    pub fn unreadable(name: &str, version: &str) -> Self {
        let rule = ("unreadable".to_owned(), Condition::Unreadable);
        Self::new(name, version, Action::Deny, [rule])
    }

    /// `namespace/name`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The hash of its content.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// What it does.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The outcome of its rules: the first that is true, or else the first that is unknown.
    pub(crate) fn matching(
        &self,
        peer: &Peer<'_>,
        request: Option<&HttpFacts<'_>>,
    ) -> (Truth, Option<&DecisionId>) {
        let mut unknown = None;
        for rule in &self.rules {
            match rule.condition.holds(peer, request) {
                Truth::True => return (Truth::True, Some(&rule.id)),
                Truth::Unknown => unknown = unknown.or(Some(&rule.id)),
                Truth::False => {}
            }
        }
        match unknown {
            Some(id) => (Truth::Unknown, Some(id)),
            None => (Truth::False, None),
        }
    }
}

#[cfg(test)]
mod tests;
