//! The delta protocol of one stream, without the stream: what the client asked for, what it holds,
//! what it is due. Requests and changes go in, responses come out of [`Session::poll`].
//!
//! Bodies and permissions come from the caller's lookup; a name that it has nothing for, or that
//! is not for this client, is absent. The rules:
//!
//! - At most one response per type waits for its acknowledgement. What changes meanwhile is merged
//!   to its newest state, because a body is looked up only when it is sent.
//! - Only differences to what the client holds are sent. A first subscription to an absent name is
//!   answered by a `Resource` without a body; a name that goes away later is announced as removed.
//! - A removal waits until everything that was due before it or with it has been acknowledged.
//! - A refused version is not sent again; the next different one is.

use std::sync::Arc;

use weft_proto::discovery::DeltaDiscoveryRequest;

use crate::body::{Body, Version};
use crate::frame::Frame;
use crate::kind::Kind;
use crate::subscription::{Held, Outstanding, Refused, TypeState};

/// Finds the body of a name as this client may see it.
pub(crate) type Lookup<'a> = &'a dyn Fn(Kind, &str) -> Option<Arc<Body>>;

/// One resource that a client did not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The type.
    pub kind: Kind,
    /// The resource.
    pub name: Arc<str>,
    /// Where in it; may be empty.
    pub field: String,
    /// Why.
    pub reason: String,
}

/// The state of one stream.
#[derive(Debug, Default)]
pub(crate) struct Session {
    types: [TypeState; Kind::COUNT],
    nonce: u64,
    confirmed: u64,
    /// Names of [`Kind::is_lookup`] types whose outstanding change was settled.
    settled: Vec<(Kind, Arc<str>)>,
    /// Names let go of while a response with them was out, which has been answered.
    let_go: Vec<(Kind, Arc<str>)>,
}

impl Session {
    /// Names subscribed to, of all types.
    pub fn len(&self) -> usize {
        self.types.iter().map(TypeState::len).sum()
    }

    /// Whether `name` is subscribed to.
    pub fn contains(&self, kind: Kind, name: &str) -> bool {
        self.types[kind.index()].get(name).is_some()
    }

    /// Names of which the client has or gets something, by type.
    pub fn names(&self) -> impl Iterator<Item = (Kind, &Arc<str>)> {
        Kind::ALL
            .into_iter()
            .flat_map(|kind| self.types[kind.index()].names().map(move |n| (kind, n)))
    }

    /// What the request's versions say that the client holds of `name`: they count only in the
    /// first request of a type on a stream.
    pub fn reported(&self, kind: Kind, request: &DeltaDiscoveryRequest, name: &str) -> Held {
        if self.types[kind.index()].greeted {
            return Held::Nothing;
        }
        match request.initial_resource_versions.get(name) {
            None => Held::Nothing,
            Some(text) if text.is_empty() => Held::Nothing,
            Some(text) => Version::parse(text).map_or(Held::Other, Held::Version),
        }
    }

    /// The first request of this type has been read.
    pub fn greet(&mut self, kind: Kind) {
        self.types[kind.index()].greeted = true;
    }

    /// Subscribes; a name that is subscribed to already is sent anew.
    pub fn subscribe(&mut self, kind: Kind, name: Arc<str>, held: Held) {
        self.types[kind.index()].subscribe(kind, name, held);
    }

    /// Lets go of a name. Returns whether the client has nothing of it from now on. Where a response that is out brings it,
    /// that is said by [`Session::take_let_go`] later.
    pub fn unsubscribe(&mut self, kind: Kind, name: &str) -> bool {
        self.types[kind.index()].unsubscribe(name)
    }

    /// The body of `name`, or the right to see it, changed at this epoch.
    pub fn changed(&mut self, kind: Kind, name: &str, epoch: u64) {
        self.types[kind.index()].changed(name, epoch);
    }

    /// As [`Session::changed`] for every name of a type.
    pub fn changed_all(&mut self, kind: Kind, epoch: u64) {
        self.types[kind.index()].changed_all(epoch);
    }

    /// Takes in an acknowledgement or a refusal. One that names no response in flight is stale
    /// and changes nothing.
    pub fn acknowledge(&mut self, kind: Kind, request: &DeltaDiscoveryRequest) -> Vec<Refusal> {
        let Ok(nonce) = request.response_nonce.parse::<u64>() else {
            return Vec::new();
        };
        let refused = match &request.error_detail {
            None => RefusedNames::None,
            Some(status) => RefusedNames::read(status),
        };
        let settled = &mut self.settled;
        let answered = self.types[kind.index()].acknowledge(nonce, |name| {
            if kind.is_lookup() {
                settled.push((kind, Arc::clone(name)));
            }
            refused.of(name)
        });
        let let_go = answered.let_go.into_iter().map(|name| (kind, name));
        self.let_go.extend(let_go);
        let refused = answered.refused.into_iter();
        refused
            .map(|(name, field, reason)| Refusal {
                kind,
                name,
                field,
                reason,
            })
            .collect()
    }

    /// The next response, if one may be sent now. `version_info` names the newest epoch.
    pub fn poll(&mut self, lookup: Lookup<'_>, version_info: &str) -> Option<Frame> {
        if !self.types.iter().any(TypeState::may_send) {
            return None;
        }
        let mut floor = u64::MAX;
        for kind in Kind::ALL {
            let state = &mut self.types[kind.index()];
            for name in state.classify(&|name| lookup(kind, name)) {
                if kind.is_lookup() {
                    self.settled.push((kind, name));
                }
            }
            floor = floor.min(state.additions_floor());
        }
        for kind in Kind::ALL {
            let state = &mut self.types[kind.index()];
            let nonce = self.nonce + 1;
            let Some((resources, removed)) = state.send(nonce, floor, &|name| lookup(kind, name))
            else {
                continue;
            };
            self.nonce = nonce;
            return Some(Frame {
                system_version_info: version_info.to_owned(),
                resources,
                type_url: kind.type_url().to_owned(),
                nonce: nonce.to_string(),
                removed_resources: removed,
            });
        }
        None
    }

    /// The newest epoch up to which the client has confirmed everything that it was due, given
    /// that `current` is the newest of all. Never goes back.
    pub fn confirmed(&mut self, current: u64) -> u64 {
        let floor = self.types.iter().map(TypeState::floor).min();
        let reached = match floor {
            Some(since) if since <= current => since.saturating_sub(1),
            _ => current,
        };
        self.confirmed = self.confirmed.max(reached);
        self.confirmed
    }

    /// Names that wait to be sent or acknowledged.
    pub fn pending(&self) -> impl Iterator<Item = (Kind, &Arc<str>)> {
        Kind::ALL
            .into_iter()
            .flat_map(|kind| self.types[kind.index()].pending().map(move |n| (kind, n)))
    }

    /// What the client refused and still does, with the epoch of the change.
    pub fn refused(&self) -> impl Iterator<Item = (Kind, &Arc<str>, &Refused)> {
        Kind::ALL.into_iter().flat_map(|kind| {
            self.types[kind.index()]
                .refused()
                .map(move |(name, refused)| (kind, name, refused))
        })
    }

    /// The version that the client has acknowledged; `None` for nothing, absent or unknown.
    pub fn held(&self, kind: Kind, name: &str) -> Option<Version> {
        match self.types[kind.index()].get(name)?.held {
            Held::Version(version) => Some(version),
            _ => None,
        }
    }

    /// What of `name` the client has not confirmed.
    pub fn outstanding(&self, kind: Kind, name: &str) -> Outstanding {
        self.types[kind.index()]
            .get(name)
            .map_or(Outstanding::NOTHING, |s| s.outstanding())
    }

    /// Names let go of that an answer has just ended.
    pub fn take_let_go(&mut self) -> Vec<(Kind, Arc<str>)> {
        std::mem::take(&mut self.let_go)
    }

    /// Names of which a change was acknowledged, refused or turned out to be none.
    pub fn take_settled(&mut self) -> Vec<(Kind, Arc<str>)> {
        std::mem::take(&mut self.settled)
    }
}

/// Which resources of a response a client refused.
enum RefusedNames {
    None,
    /// It did not say which: all.
    All(String),
    Some(Vec<weft_proto::mesh::Refusal>),
}

impl RefusedNames {
    fn read(status: &weft_proto::google::rpc::Status) -> Self {
        let refusals: Vec<_> = status
            .details
            .iter()
            .filter(|any| any.type_url == weft_proto::type_url::REFUSAL)
            .filter_map(|any| prost::Message::decode(any.value.as_slice()).ok())
            .collect();
        if refusals.is_empty() {
            Self::All(status.message.clone())
        } else {
            Self::Some(refusals)
        }
    }

    /// Field and reason, if `name` is among them.
    fn of(&self, name: &str) -> Option<(String, String)> {
        match self {
            Self::None => None,
            Self::All(message) => Some((String::new(), message.clone())),
            Self::Some(refusals) => refusals
                .iter()
                .find(|refusal| refusal.resource == name)
                .map(|refusal| (refusal.field.clone(), refusal.reason.clone())),
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
