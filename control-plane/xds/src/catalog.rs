//! Where bodies come from: everything there is to send, looked up by type and topic.
//!
//! A topic is a resource's name, except where one name means different things to different
//! clients: then the topic says for which (see [`topic_of`]).

use std::borrow::Cow;

use crate::body::Body;
use crate::kind::Kind;

/// All resources of one moment. Encodes on demand: only what someone subscribes to is asked for,
/// once for all streams.
pub trait Catalog: Send + Sync {
    /// The resource behind a topic, if there is one. `drained` goes into an `Inbound` and means
    /// nothing elsewhere.
    fn body(&self, kind: Kind, topic: &str, drained: bool) -> Option<Body>;
}

/// Which topics may differ from those of the catalog before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Any.
    All,
    /// Those that match one of these.
    Some(Vec<Pattern>),
}

/// Topics of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The type.
    pub kind: Kind,
    /// The topic or the beginning of it.
    pub text: String,
    /// All topics that begin so.
    pub prefix: bool,
}

impl Pattern {
    /// Exactly one topic.
    pub fn exact(kind: Kind, topic: impl Into<String>) -> Self {
        Self {
            kind,
            text: topic.into(),
            prefix: false,
        }
    }

    /// All topics that begin with `text`.
    pub fn prefix(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            prefix: true,
        }
    }
}

/// Joins a name and the client namespace it is relative to; in no valid name.
const RELATIVE_TO: char = '@';

/// The topic of a name for clients of a namespace: a host without dots (`Address` only) is a
/// service of the client's own namespace.
#[must_use]
pub fn topic_of<'a>(kind: Kind, name: &'a str, namespace: &str) -> Cow<'a, str> {
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    if kind == Kind::Address && !host.contains(['.', ':', RELATIVE_TO]) {
        Cow::Owned(format!("{name}{RELATIVE_TO}{namespace}"))
    } else {
        Cow::Borrowed(name)
    }
}

/// The name of a topic, and the namespace that it is relative to.
#[must_use]
pub fn name_of(topic: &str) -> (&str, Option<&str>) {
    match topic.split_once(RELATIVE_TO) {
        Some((name, namespace)) => (name, Some(namespace)),
        None => (topic, None),
    }
}
