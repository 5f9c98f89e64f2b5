//! "Has my change reached everyone?": epochs, and what each stream has confirmed of them.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use weft_identity::{PodRef, SpiffeId};

use crate::hub::Hub;
use crate::kind::Kind;

/// At most so many names are listed per stream.
const LISTED: usize = 20;

/// A change of the world as one replica counts them; never compared across replicas.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// The replica.
    pub replica: Arc<str>,
    /// Its count, from 1.
    pub counter: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.replica, self.counter)
    }
}

/// How far a change has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Streams connected.
    pub total: usize,
    /// Of these, the ones that have confirmed what they were due.
    pub confirmed: usize,
    /// The others, by pod.
    pub lagging: Vec<PodRef>,
    /// Resources that proxies refused, changed in this epoch or before.
    pub refused: Vec<RefusedBy>,
}

impl Progress {
    /// Whether every stream has confirmed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.confirmed == self.total
    }
}

/// A refusal that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedBy {
    /// Whose.
    pub pod: PodRef,
    /// The type.
    pub kind: Kind,
    /// The resource.
    pub name: Arc<str>,
    /// Counter of the epoch in which the refused content came to be.
    pub since: u64,
    /// Where in the resource; may be empty.
    pub field: String,
    /// Why.
    pub reason: String,
}

/// One stream, for people.
#[derive(Clone, Debug)]
pub struct ProxyStatus {
    /// The pod.
    pub pod: PodRef,
    /// Its proven identity.
    pub identity: SpiffeId,
    /// Where it connects from.
    pub address: std::net::IpAddr,
    /// Unix seconds.
    pub connected_since: u64,
    /// Counter of the newest epoch up to which it has confirmed everything.
    pub confirmed: u64,
    /// Acknowledgements and refusals received.
    pub acknowledged: u64,
    /// Names subscribed to.
    pub subscriptions: usize,
    /// Some of the names that wait for it, `Kind name`.
    pub pending: Vec<String>,
    /// What it refuses.
    pub refused: Vec<RefusedBy>,
}

impl Hub {
    /// How far `epoch` has come.
    pub fn progress(&mut self, epoch: u64) -> Progress {
        let current = self.epoch();
        let mut progress = Progress::default();
        for (_, stream) in self.streams_mut() {
            progress.total += 1;
            if stream.session.confirmed(current) >= epoch {
                progress.confirmed += 1;
            } else {
                progress.lagging.push(stream.client.pod.clone());
            }
            let refused = refused_by(stream).filter(|refused| refused.since <= epoch);
            progress.refused.extend(refused);
        }
        progress.lagging.sort();
        progress
    }

    /// The pods of which every stream has confirmed the newest version of a resource.
    pub fn holders(&mut self, kind: Kind, name: &str) -> HashSet<PodRef> {
        let newest = self.topic(kind, name).and_then(|topic| topic.body.as_ref());
        let Some(newest) = newest.map(|body| body.version()) else {
            return HashSet::new();
        };
        let (mut holders, mut others) = (HashSet::new(), HashSet::new());
        for (_, stream) in self.streams_mut() {
            let holds = stream.session.held(kind, name) == Some(newest);
            let pods = if holds { &mut holders } else { &mut others };
            pods.insert(stream.client.pod.clone());
        }
        holders.difference(&others).cloned().collect()
    }

    /// All streams, by pod.
    pub fn proxies(&mut self) -> Vec<ProxyStatus> {
        let current = self.epoch();
        let mut proxies: Vec<_> = self
            .streams_mut()
            .map(|(_, stream)| ProxyStatus {
                pod: stream.client.pod.clone(),
                identity: stream.client.identity.clone(),
                address: stream.client.address,
                connected_since: stream.connected_unix,
                confirmed: stream.session.confirmed(current),
                acknowledged: stream.acknowledged,
                subscriptions: stream.session.len(),
                pending: pending(stream),
                refused: refused_by(stream).collect(),
            })
            .collect();
        proxies.sort_by(|a, b| a.pod.cmp(&b.pod));
        proxies
    }
}

fn pending(stream: &crate::hub::Stream) -> Vec<String> {
    let names = stream.session.pending().take(LISTED);
    names.map(|(kind, name)| format!("{kind} {name}")).collect()
}

fn refused_by(stream: &crate::hub::Stream) -> impl Iterator<Item = RefusedBy> {
    stream
        .session
        .refused()
        .map(|(kind, name, refused)| RefusedBy {
            pod: stream.client.pod.clone(),
            kind,
            name: Arc::clone(name),
            since: refused.since,
            field: refused.field.clone(),
            reason: refused.reason.clone(),
        })
}
