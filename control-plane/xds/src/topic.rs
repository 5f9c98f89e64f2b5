//! One name of one type: its newest body and who subscribes to it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::body::{Body, Facts, InboundFacts};
use crate::drain::Departure;
use crate::stream_id::StreamId;

#[derive(Debug, Default)]
pub(crate) struct Topic {
    pub body: Option<Arc<Body>>,
    pub subscribers: HashSet<StreamId>,
    /// Addresses that left, with streams that have not confirmed it.
    pub departures: Vec<Departure>,
}

impl Topic {
    pub fn inbound(&self) -> Option<&InboundFacts> {
        match self.body.as_ref()?.facts() {
            Facts::Inbound(facts) => Some(facts),
            _ => None,
        }
    }

    /// Takes `stream` off every departure that `confirmed` says yes to. Returns the addresses
    /// whose departure is thereby complete.
    pub fn confirm(
        &mut self,
        stream: StreamId,
        confirmed: impl Fn(&Departure) -> bool,
    ) -> Vec<IpAddr> {
        let mut complete = Vec::new();
        self.departures.retain_mut(|departure| {
            if departure.waiting.contains(&stream) && confirmed(departure) {
                departure.waiting.remove(&stream);
            }
            if departure.waiting.is_empty() {
                complete.push(departure.address);
            }
            !departure.waiting.is_empty()
        });
        complete
    }
}

/// The addresses that a body offers for new requests.
pub(crate) fn live(body: Option<&Arc<Body>>) -> &[IpAddr] {
    match body.map(|body| body.facts()) {
        Some(Facts::Live(addresses)) => addresses,
        _ => &[],
    }
}

pub(crate) fn same(a: Option<&Arc<Body>>, b: Option<&Arc<Body>>) -> bool {
    a.map(|body| body.version()) == b.map(|body| body.version())
}
