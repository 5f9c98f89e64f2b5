//! Which streams may still use an address that is no longer offered: keeps the
//! [`DrainTracker`](crate::drain::DrainTracker) up to date.

use std::net::IpAddr;
use std::sync::Arc;

use super::Hub;
use crate::body::Body;
use crate::catalog::topic_of;
use crate::drain::Departure;
use crate::kind::Kind;
use crate::stream_id::StreamId;
use crate::subscription::Held;
use crate::topic::live;

impl Hub {
    /// A client came back with something older: it may still use what has left since.
    pub(super) fn expect_departures(&mut self, id: StreamId, kind: Kind, topic: &str, held: Held) {
        if !matches!(kind, Kind::Endpoints | Kind::Address) {
            return;
        }
        let open = self.drain.open_addresses();
        let Some(topic) = self.topics[kind.index()].get_mut(topic) else {
            return;
        };
        let newest = topic
            .body
            .as_ref()
            .map(|body| Held::Version(body.version()));
        if newest == Some(held) {
            return;
        }
        for address in open {
            self.drain.depart(address);
            topic.departures.push(Departure {
                address,
                epoch: self.epoch,
                waiting: [id].into(),
            });
        }
    }

    pub(super) fn offers_changed(
        &mut self,
        kind: Kind,
        name: &Arc<str>,
        old: Option<&Arc<Body>>,
        new: Option<&Arc<Body>>,
    ) {
        let (old, new) = (live(old), live(new));
        self.drain.offer(new);
        let mut freed = Vec::new();
        for address in old.iter().filter(|address| !new.contains(address)) {
            let Some(topic) = self.topics[kind.index()].get_mut(name) else {
                break;
            };
            let waiting = topic.subscribers.clone();
            if waiting.is_empty() {
                continue;
            }
            topic.departures.push(Departure {
                address: *address,
                epoch: self.epoch,
                waiting,
            });
            self.drain.depart(*address);
        }
        for address in old {
            freed.extend(self.drain.withdraw(*address));
        }
        self.drained(freed);
    }

    /// Follows up on what a stream has just confirmed.
    pub(super) fn settle(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let mut freed: Vec<Arc<str>> = Vec::new();
        for (kind, name) in stream.session.take_settled() {
            let topic = topic_of(kind, &name, stream.client.identity.namespace());
            let Some(topic) = self.topics[kind.index()].get_mut(&*topic) else {
                continue;
            };
            if topic.departures.is_empty() {
                continue;
            }
            let outstanding = stream.session.outstanding(kind, &name);
            let complete = topic.confirm(id, |d| !outstanding.before(d.epoch));
            freed.extend(
                complete
                    .into_iter()
                    .filter_map(|a: IpAddr| self.drain.departed(a)),
            );
        }
        self.drained(freed);
    }

    /// Tells pods that nobody sends them new requests any more.
    pub(super) fn drained(&mut self, pods: impl IntoIterator<Item = Arc<str>>) {
        for pod in pods {
            self.refresh(Kind::Inbound, &pod);
        }
    }
}
