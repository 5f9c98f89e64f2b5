//! Everything the server knows, without network and clock: topics (names with their newest body
//! and subscribers) and streams (a [`Session`] each). Requests and catalogs go in, responses come
//! out; whoever is due something is woken.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::Notify;
use weft_proto::discovery::DeltaDiscoveryRequest;

use crate::body::{Body, InboundFacts};
use crate::catalog::{Catalog, Changes, Pattern, name_of, topic_of};
use crate::client::{Client, NotAdmitted};
use crate::drain::DrainTracker;
use crate::frame::Frame;
use crate::kind::Kind;
use crate::session::{Refusal, Session};
use crate::stream_id::StreamId;
use crate::subscription::Held;
use crate::topic::{Topic, live, same};

mod departures;

/// Names a stream may be subscribed to, far above what a workload talks to.
const MAX_NAMES: usize = 50_000;
/// Longest name: two Kubernetes names, a namespace and the punctuation.
const MAX_NAME_BYTES: usize = 640;

/// Why a stream ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamEnd {
    #[error("no source has been read to its end yet")]
    NotReady,
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    #[error("more than {MAX_NAMES} names subscribed to")]
    TooManyNames,
    #[error("a name of {0} bytes, more than {MAX_NAME_BYTES}")]
    NameTooLong(usize),
}

/// What came of a request.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Names newly subscribed to.
    pub subscribed: usize,
    /// What the client refused.
    pub refusals: Vec<Refusal>,
    /// Names that this client may not see.
    pub denied: Vec<(Kind, Arc<str>)>,
}

pub(crate) struct Stream {
    pub client: Client,
    pub session: Session,
    pub own_inbound: Arc<str>,
    pub connected_unix: u64,
    pub acknowledged: u64,
    wake: Arc<Notify>,
    end: Option<StreamEnd>,
}

pub(crate) struct Hub {
    replica: Arc<str>,
    epoch: u64,
    catalog: Option<Arc<dyn Catalog>>,
    topics: [BTreeMap<Arc<str>, Topic>; Kind::COUNT],
    streams: HashMap<StreamId, Stream>,
    drain: DrainTracker,
    last_stream: u64,
}

impl Hub {
    pub fn new(replica: Arc<str>) -> Self {
        Self {
            replica,
            epoch: 0,
            catalog: None,
            topics: Default::default(),
            streams: HashMap::new(),
            drain: DrainTracker::default(),
            last_stream: 0,
        }
    }

    pub fn replica(&self) -> &Arc<str> {
        &self.replica
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn is_ready(&self) -> bool {
        self.catalog.is_some()
    }

    pub fn streams_mut(&mut self) -> impl Iterator<Item = (StreamId, &mut Stream)> {
        self.streams.iter_mut().map(|(id, stream)| (*id, stream))
    }

    pub fn topic(&self, kind: Kind, name: &str) -> Option<&Topic> {
        self.topics[kind.index()].get(name)
    }

    /// Takes in a new catalog. Returns the epoch that it is from now on.
    pub fn publish(&mut self, catalog: Arc<dyn Catalog>, changes: &Changes) -> u64 {
        self.epoch += 1;
        self.catalog = Some(catalog);
        let keys = match changes {
            Changes::All => self.keys(),
            Changes::Some(patterns) => {
                let mut keys: Vec<_> = patterns.iter().flat_map(|p| self.matching(p)).collect();
                keys.sort();
                keys.dedup();
                keys
            }
        };
        for (kind, key) in keys {
            self.refresh(kind, &key);
        }
        self.epoch
    }

    #[cfg(test)]
    pub fn is_drained(&self, pod: &str) -> bool {
        self.drain.is_drained(pod)
    }

    fn keys(&self) -> Vec<(Kind, Arc<str>)> {
        let of_kind = |kind: Kind| self.topics[kind.index()].keys().map(move |key| (kind, key));
        let keys = Kind::ALL.into_iter().flat_map(of_kind);
        keys.map(|(kind, key)| (kind, Arc::clone(key))).collect()
    }

    fn matching(&self, pattern: &Pattern) -> Vec<(Kind, Arc<str>)> {
        let topics = &self.topics[pattern.kind.index()];
        let text = pattern.text.as_str();
        let from = (Bound::Included(text), Bound::Unbounded);
        topics
            .range::<str, _>(from)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(text))
            .filter(|key| pattern.prefix || ***key == *text)
            .map(|key| (pattern.kind, Arc::clone(key)))
            .collect()
    }

    /// Opens a stream for a client whose claim holds.
    pub fn connect(
        &mut self,
        client: Client,
        connected_unix: u64,
        wake: Arc<Notify>,
    ) -> Result<StreamId, StreamEnd> {
        if !self.is_ready() {
            return Err(StreamEnd::NotReady);
        }
        self.last_stream += 1;
        let id = StreamId(self.last_stream);
        let own_inbound = self.enter(Kind::Inbound, &client.pod.to_string(), id);
        if let Err(refusal) = client.admit(self.inbound(&own_inbound)) {
            self.leave(Kind::Inbound, &own_inbound, id);
            return Err(refusal.into());
        }
        let stream = Stream {
            client,
            session: Session::default(),
            own_inbound,
            connected_unix,
            acknowledged: 0,
            wake,
            end: None,
        };
        self.streams.insert(id, stream);
        Ok(id)
    }

    /// Forgets a stream.
    pub fn disconnect(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        let namespace = stream.client.identity.namespace();
        for (kind, name) in stream.session.names() {
            self.leave(kind, &topic_of(kind, name, namespace), id);
        }
        self.leave(Kind::Inbound, &stream.own_inbound, id);
    }

    /// Takes in a request of a known type.
    pub fn request(
        &mut self,
        id: StreamId,
        kind: Kind,
        request: &DeltaDiscoveryRequest,
    ) -> Result<Received, StreamEnd> {
        let mut received = Received::default();
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(received);
        };
        if !request.response_nonce.is_empty() {
            received.refusals = stream.session.acknowledge(kind, request);
            stream.acknowledged += 1;
        }
        let mut let_go = stream.session.take_let_go();
        for name in &request.resource_names_unsubscribe {
            if stream.session.unsubscribe(kind, name) {
                let_go.push((kind, name.as_str().into()));
            }
        }
        let namespace = stream.client.identity.namespace();
        let left: Vec<_> = let_go
            .iter()
            .map(|(kind, name)| (*kind, topic_of(*kind, name, namespace).into_owned()))
            .collect();
        for (kind, topic) in left {
            self.leave(kind, &topic, id);
        }
        for name in &request.resource_names_subscribe {
            self.subscribe(id, kind, name, request, &mut received)?;
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.session.greet(kind);
        }
        self.settle(id);
        Ok(received)
    }

    /// The next response for a stream, or why it must end.
    pub fn poll(&mut self, id: StreamId) -> Result<Option<Frame>, StreamEnd> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(None);
        };
        if let Some(end) = stream.end.clone() {
            return Err(end);
        }
        let inbound = self.topics[Kind::Inbound.index()]
            .get(&stream.own_inbound)
            .and_then(Topic::inbound);
        let (topics, client) = (&self.topics, &stream.client);
        let lookup = |kind: Kind, name: &str| {
            let topic = topic_of(kind, name, client.identity.namespace());
            let body = topics[kind.index()].get(&*topic)?.body.clone()?;
            client.may_see(kind, name, inbound).then_some(body)
        };
        let version_info = format!("{}/{}", self.replica, self.epoch);
        let frame = stream.session.poll(&lookup, &version_info);
        self.settle(id);
        Ok(frame)
    }

    fn subscribe(
        &mut self,
        id: StreamId,
        kind: Kind,
        name: &str,
        request: &DeltaDiscoveryRequest,
        received: &mut Received,
    ) -> Result<(), StreamEnd> {
        if name.len() > MAX_NAME_BYTES {
            return Err(StreamEnd::NameTooLong(name.len()));
        }
        let Some(stream) = self.streams.get(&id) else {
            return Ok(());
        };
        let client = &stream.client;
        if !client.may_see(kind, name, self.inbound(&stream.own_inbound)) {
            received.denied.push((kind, name.into()));
        }
        if !stream.session.contains(kind, name) {
            received.subscribed += 1;
            if stream.session.len() >= MAX_NAMES {
                return Err(StreamEnd::TooManyNames);
            }
        }
        let held = stream.session.reported(kind, request, name);
        let topic = topic_of(kind, name, client.identity.namespace()).into_owned();
        let topic = self.enter(kind, &topic, id);
        if matches!(held, Held::Version(_) | Held::Other) {
            self.expect_departures(id, kind, &topic, held);
        }
        let name = if *topic == *name { topic } else { name.into() };
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.session.subscribe(kind, name, held);
        }
        Ok(())
    }

    fn inbound(&self, name: &str) -> Option<&InboundFacts> {
        self.topic(Kind::Inbound, name)?.inbound()
    }

    /// Makes `id` a subscriber of a topic, which begins to exist with its first one.
    fn enter(&mut self, kind: Kind, name: &str, id: StreamId) -> Arc<str> {
        let known = self.topics[kind.index()].get_key_value(name);
        let name = match known {
            Some((name, _)) => Arc::clone(name),
            None => {
                let name: Arc<str> = name.into();
                let body = self.encode(kind, &name);
                self.drain.offer(live(body.as_ref()));
                let topic = Topic {
                    body,
                    ..Topic::default()
                };
                self.topics[kind.index()].insert(Arc::clone(&name), topic);
                name
            }
        };
        if let Some(topic) = self.topics[kind.index()].get_mut(&name) {
            topic.subscribers.insert(id);
        }
        name
    }

    /// Takes `id` off a topic, which ends with its last subscriber. A stream keeps the topic of
    /// its own `Inbound`, which says what it may see.
    fn leave(&mut self, kind: Kind, name: &str, id: StreamId) {
        let own = self.streams.get(&id).map(|stream| &stream.own_inbound);
        if kind == Kind::Inbound && own.is_some_and(|own| **own == *name) {
            return;
        }
        let Some(topic) = self.topics[kind.index()].get_mut(name) else {
            return;
        };
        topic.subscribers.remove(&id);
        let mut freed = Vec::new();
        for address in topic.confirm(id, |_| true) {
            freed.extend(self.drain.departed(address));
        }
        if topic.subscribers.is_empty() {
            for address in live(topic.body.as_ref()) {
                freed.extend(self.drain.withdraw(*address));
            }
            self.topics[kind.index()].remove(name);
            if kind == Kind::Inbound {
                self.drain.forget(name);
            }
        }
        self.drained(freed);
    }

    fn encode(&self, kind: Kind, name: &str) -> Option<Arc<Body>> {
        let drained = kind == Kind::Inbound && self.drain.is_drained(name);
        let body = self.catalog.as_ref()?.body(kind, name, drained)?;
        Some(Arc::new(body))
    }

    /// Compares a topic with the catalog and tells its subscribers when it differs.
    fn refresh(&mut self, kind: Kind, name: &Arc<str>) {
        let new = self.encode(kind, name);
        let Some(topic) = self.topics[kind.index()].get_mut(name) else {
            return;
        };
        if same(topic.body.as_ref(), new.as_ref()) {
            return;
        }
        let old = std::mem::replace(&mut topic.body, new.clone());
        let subscribers: Vec<StreamId> = topic.subscribers.iter().copied().collect();
        for id in &subscribers {
            if let Some(stream) = self.streams.get_mut(id) {
                stream.session.changed(kind, name_of(name).0, self.epoch);
                stream.wake.notify_one();
            }
        }
        if kind == Kind::Inbound {
            self.inbound_changed(name, old.as_ref(), &subscribers);
        }
        self.offers_changed(kind, name, old.as_ref(), new.as_ref());
    }

    fn inbound_changed(&mut self, name: &Arc<str>, old: Option<&Arc<Body>>, streams: &[StreamId]) {
        let old = Topic {
            body: old.cloned(),
            ..Topic::default()
        };
        let new = self.inbound(name).cloned();
        for id in streams {
            let Some(stream) = self.streams.get_mut(id).filter(|s| s.own_inbound == *name) else {
                continue;
            };
            stream.session.changed_all(Kind::Authorization, self.epoch);
            stream.end = stream.client.admit(new.as_ref()).err().map(StreamEnd::from);
        }
        let was = old.inbound().is_some_and(|inbound| inbound.terminating);
        match &new {
            Some(inbound) if inbound.terminating && !was => {
                if self.drain.leave(name, &inbound.addresses) {
                    self.drained([Arc::clone(name)]);
                }
            }
            Some(inbound) if inbound.terminating => {}
            _ => {
                if self.drain.forget(name) {
                    self.refresh(Kind::Inbound, name);
                }
            }
        }
    }
}
