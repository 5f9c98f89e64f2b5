//! One type on one stream: its subscriptions, the response in flight, and what is due.
//!
//! Every change carries the epoch it happened at ("since"). Two values are special:
//! [`FROM_THE_START`] for a client of which it is unknown what it has in force, [`NEVER`] for a
//! first look-up, which cannot have anything stale in force.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::body::{Body, Version, absent};
use crate::kind::Kind;

/// Before every epoch.
const FROM_THE_START: u64 = 0;
/// After every epoch.
const NEVER: u64 = u64::MAX;
/// A response carries about so many bytes of resources; the rest follows in the next one. gRPC
/// clients accept 4 MiB unless told otherwise.
const FRAME_BYTES: usize = 1 << 20;

/// What a client has of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nothing; it awaits an answer.
    Nothing,
    /// It knows that there is nothing.
    Absent,
    /// Something that this server never sent.
    Other,
    /// This version.
    Version(Version),
}

impl Held {
    fn is_resource(self) -> bool {
        matches!(self, Held::Other | Held::Version(_))
    }
}

/// A version that the client did not apply.
#[derive(Debug)]
pub(crate) struct Refused {
    state: Held,
    pub since: u64,
    pub field: String,
    pub reason: String,
}

#[derive(Debug)]
struct Sent {
    state: Held,
    since: u64,
}

#[derive(Debug)]
pub(crate) struct Subscription {
    pub held: Held,
    due: Option<u64>,
    /// What is due, or in flight, is that it went away.
    removing: bool,
    sent: Option<Sent>,
    refused: Option<Box<Refused>>,
}

/// The oldest change of a name that a client has not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outstanding(u64);

impl Outstanding {
    pub const NOTHING: Outstanding = Outstanding(NEVER);

    /// Whether the client may still act on what was in force before `epoch`.
    pub fn before(self, epoch: u64) -> bool {
        self.0 <= epoch
    }
}

impl Subscription {
    pub fn outstanding(&self) -> Outstanding {
        let due = self.due.unwrap_or(NEVER);
        let sent = self.sent.as_ref().map_or(NEVER, |sent| sent.since);
        let refused = self.refused.as_ref().map_or(NEVER, |r| r.since);
        Outstanding(due.min(sent).min(refused))
    }
}

#[derive(Debug)]
struct InFlight {
    nonce: u64,
    /// What it brings. The client may have let go of some since, before it read this response or
    /// after: should it come back to one before it answers, it may act on this response.
    names: Vec<Arc<str>>,
}

/// What the client's answer to a response says.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    /// Name, field and reason of each resource that it refused.
    pub refused: Vec<(Arc<str>, String, String)>,
    /// Names that it let go of while the response was out, and of which it has nothing now.
    pub let_go: Vec<Arc<str>>,
}

/// Finds the newest body of a name.
type Bodies<'a> = &'a dyn Fn(&str) -> Option<Arc<Body>>;

/// Resources and removed names of one response.
type Contents = (Vec<Bytes>, Vec<String>);

#[derive(Debug, Default)]
pub(crate) struct TypeState {
    /// The first request has been read.
    pub greeted: bool,
    names: HashMap<Arc<str>, Subscription>,
    /// Names whose subscription is due; may hold leftovers whose subscription is not.
    due: Vec<Arc<str>>,
    in_flight: Option<InFlight>,
}

impl TypeState {
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn get(&self, name: &str) -> Option<&Subscription> {
        self.names.get(name)
    }

    /// All names of which the client has or gets something.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let in_flight = self.in_flight.iter().flat_map(|out| &out.names);
        let let_go = in_flight.filter(|name| !self.names.contains_key(*name));
        self.names.keys().chain(let_go)
    }

    pub fn subscribe(&mut self, kind: Kind, name: Arc<str>, held: Held) {
        // Whoever asks again wants it whole: an answer in flight counts no more. But it may still
        // act on that answer, or on what it had; so may who has asked again before.
        let before = self.names.get(&name);
        let had =
            before.is_some_and(|s| s.held.is_resource() || s.outstanding() != Outstanding::NOTHING);
        let may_get = self.is_in_flight(&name);
        let since = match held {
            Held::Nothing if kind.is_lookup() && !had && !may_get => NEVER,
            _ => FROM_THE_START,
        };
        self.names.insert(
            Arc::clone(&name),
            Subscription {
                held,
                due: Some(since),
                removing: false,
                sent: None,
                refused: None,
            },
        );
        self.due.push(name);
    }

    /// Lets go of a name. Returns whether the client has nothing of it from now on: it had it, and
    /// no response that is out brings it.
    pub fn unsubscribe(&mut self, name: &str) -> bool {
        self.names.remove(name).is_some() && !self.is_in_flight(name)
    }

    fn is_in_flight(&self, name: &str) -> bool {
        let mut in_flight = self.in_flight.iter().flat_map(|out| &out.names);
        in_flight.any(|brought| **brought == *name)
    }

    pub fn changed(&mut self, name: &str, epoch: u64) {
        let Some((name, _)) = self.names.get_key_value(name) else {
            return;
        };
        let name = Arc::clone(name);
        if let Some(subscription) = self.names.get_mut(&name)
            && subscription.due.is_none()
        {
            subscription.due = Some(epoch);
            self.due.push(name);
        }
    }

    pub fn changed_all(&mut self, epoch: u64) {
        for (name, subscription) in &mut self.names {
            if subscription.due.is_none() {
                subscription.due = Some(epoch);
                self.due.push(Arc::clone(name));
            }
        }
    }

    /// Applies an acknowledgement. `refused` says field and reason of a refused name.
    pub fn acknowledge(
        &mut self,
        nonce: u64,
        mut refused: impl FnMut(&Arc<str>) -> Option<(String, String)>,
    ) -> Answered {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.nonce == nonce) else {
            return Answered::default();
        };
        let mut answered = Answered::default();
        for name in in_flight.names {
            let refusal = refused(&name);
            let Some(subscription) = self.names.get_mut(&name) else {
                answered.let_go.push(name);
                continue;
            };
            let Some(sent) = subscription.sent.take() else {
                continue;
            };
            match refusal {
                None => subscription.held = sent.state,
                Some((field, reason)) => {
                    let refusal = (name, field.clone(), reason.clone());
                    answered.refused.push(refusal);
                    subscription.refused = Some(Box::new(Refused {
                        state: sent.state,
                        since: sent.since,
                        field,
                        reason,
                    }));
                }
            }
        }
        answered
    }

    pub fn may_send(&self) -> bool {
        self.in_flight.is_none() && !self.due.is_empty()
    }

    /// Drops from the due names those of which the client has the newest state already, or has
    /// refused it, and returns them; finds out which of the others are removals.
    pub fn classify(&mut self, body: Bodies<'_>) -> Vec<Arc<str>> {
        let mut settled = Vec::new();
        if !self.may_send() {
            return settled;
        }
        let names = &mut self.names;
        self.due.retain(|name| {
            let Some(subscription) = names.get_mut(name).filter(|s| s.due.is_some()) else {
                return false;
            };
            let newest = state_of(body(name).as_deref());
            let refused = subscription.refused.as_ref();
            if newest == subscription.held {
                subscription.refused = None;
            } else if refused.is_none_or(|refused| refused.state != newest) {
                subscription.removing = newest == Held::Absent && subscription.held.is_resource();
                return true;
            }
            subscription.due = None;
            settled.push(Arc::clone(name));
            false
        });
        settled
    }

    /// The oldest change that is, or may be, no removal and that the client has not acknowledged.
    /// Of what waits behind a response in flight it is unknown, so it counts.
    pub fn additions_floor(&self) -> u64 {
        let sent = self
            .sent_subscriptions()
            .filter(|(_, subscription, _)| !subscription.removing)
            .map(|(.., sent)| sent.since);
        let due = self
            .due_subscriptions()
            .filter(|(_, subscription, _)| self.in_flight.is_some() || !subscription.removing)
            .map(|(.., since)| since);
        sent.chain(due).min().unwrap_or(NEVER)
    }

    /// Takes what may be sent now. Removals wait for every other change that is not younger:
    /// those before `floor` may go.
    pub fn send(&mut self, nonce: u64, floor: u64, body: Bodies<'_>) -> Option<Contents> {
        if !self.may_send() {
            return None;
        }
        let (mut resources, mut removed, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        let names = &mut self.names;
        self.due.retain(|name| {
            let Some(subscription) = names.get_mut(name) else {
                return false;
            };
            let Some(since) = subscription.due else {
                return false;
            };
            if bytes >= FRAME_BYTES || (subscription.removing && since >= floor) {
                return true;
            }
            let newest = body(name);
            if subscription.removing {
                removed.push(name.to_string());
                bytes += name.len();
            } else {
                let wire = newest
                    .as_ref()
                    .map_or_else(|| absent(name), |b| b.wire().clone());
                bytes += wire.len();
                resources.push(wire);
            }
            let refused = subscription.refused.take().map_or(NEVER, |r| r.since);
            subscription.due = None;
            subscription.sent = Some(Sent {
                state: state_of(newest.as_deref()),
                since: since.min(refused),
            });
            sent.push(Arc::clone(name));
            false
        });
        if sent.is_empty() {
            return None;
        }
        self.in_flight = Some(InFlight { nonce, names: sent });
        Some((resources, removed))
    }

    /// The oldest change that the client has neither acknowledged nor refused.
    pub fn floor(&self) -> u64 {
        let sent = self.sent_subscriptions().map(|(.., sent)| sent.since);
        let due = self.due_subscriptions().map(|(.., since)| since);
        sent.chain(due).min().unwrap_or(NEVER)
    }

    /// Names that wait to be sent or acknowledged.
    pub fn pending(&self) -> impl Iterator<Item = &Arc<str>> {
        let sent = self.sent_subscriptions().map(|(name, ..)| name);
        let due = self
            .due_subscriptions()
            .filter(|(_, subscription, _)| subscription.sent.is_none())
            .map(|(name, ..)| name);
        sent.chain(due)
    }

    /// What is refused in its newest state.
    pub fn refused(&self) -> impl Iterator<Item = (&Arc<str>, &Refused)> {
        self.names
            .iter()
            .filter_map(|(name, s)| s.refused.as_deref().map(|refused| (name, refused)))
    }

    fn sent_subscriptions(&self) -> impl Iterator<Item = (&Arc<str>, &Subscription, &Sent)> {
        let names = self.in_flight.iter().flat_map(|in_flight| &in_flight.names);
        names.filter_map(|name| {
            let subscription = self.names.get(name)?;
            Some((name, subscription, subscription.sent.as_ref()?))
        })
    }

    fn due_subscriptions(&self) -> impl Iterator<Item = (&Arc<str>, &Subscription, u64)> {
        self.due.iter().filter_map(|name| {
            let subscription = self.names.get(name)?;
            Some((name, subscription, subscription.due?))
        })
    }
}

fn state_of(body: Option<&Body>) -> Held {
    body.map_or(Held::Absent, |body| Held::Version(body.version()))
}
