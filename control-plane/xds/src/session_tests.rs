//! The protocol, rule by rule.

use std::cell::RefCell;
use std::collections::HashMap;

use prost::Message;
use weft_proto::discovery::Resource;
use weft_proto::mesh;

use crate::body::Facts;

use super::*;

/// A session and what there is to send.
#[derive(Default)]
struct Fixture {
    session: Session,
    bodies: RefCell<HashMap<(Kind, String), Arc<Body>>>,
    epoch: u64,
}

impl Fixture {
    fn set(&mut self, kind: Kind, name: &str, content: Option<&str>) {
        self.epoch += 1;
        let key = (kind, name.to_owned());
        let mut bodies = self.bodies.borrow_mut();
        match content {
            Some(content) => {
                let message = mesh::MeshConfig {
                    trust_domain: content.into(),
                    ..Default::default()
                };
                bodies.insert(key, Arc::new(Body::new(kind, name, &message, Facts::None)))
            }
            None => bodies.remove(&key),
        };
        self.session.changed(kind, name, self.epoch);
    }

    fn subscribe(&mut self, kind: Kind, name: &str, held: Held) {
        self.session.subscribe(kind, name.into(), held);
    }

    fn version(&self, kind: Kind, name: &str) -> Version {
        self.bodies.borrow()[&(kind, name.to_owned())].version()
    }

    fn poll(&mut self) -> Option<Frame> {
        let bodies = &self.bodies;
        let lookup = |kind, name: &str| bodies.borrow().get(&(kind, name.to_owned())).cloned();
        self.session.poll(&lookup, "r/1")
    }

    fn accept(&mut self, frame: &Frame) {
        let kind = Kind::from_type_url(&frame.type_url).unwrap();
        let request = DeltaDiscoveryRequest {
            response_nonce: frame.nonce.clone(),
            ..Default::default()
        };
        self.session.acknowledge(kind, &request);
    }

    fn confirmed(&mut self) -> u64 {
        self.session.confirmed(self.epoch)
    }
}

/// Names and contents (`None`: no body) of a response, sorted.
fn contents(frame: &Frame) -> Vec<(String, Option<String>)> {
    let mut contents: Vec<_> = frame
        .resources
        .iter()
        .map(|wire| {
            let resource = Resource::decode(wire.clone()).unwrap();
            let message = resource.resource.map(|any| {
                mesh::MeshConfig::decode(any.value.as_slice())
                    .unwrap()
                    .trust_domain
            });
            (resource.name, message)
        })
        .collect();
    contents.sort();
    contents
}

fn one(name: &str, content: &str) -> Vec<(String, Option<String>)> {
    vec![(name.into(), Some(content.into()))]
}

#[test]
fn what_changes_while_a_response_is_out_is_merged_to_its_newest_state() {
    let mut f = Fixture::default();
    f.set(Kind::Service, "a", Some("1"));
    f.subscribe(Kind::Service, "a", Held::Nothing);
    let first = f.poll().unwrap();
    assert_eq!(contents(&first), one("a", "1"));
    for content in ["2", "3", "4"] {
        f.set(Kind::Service, "a", Some(content));
        assert_eq!(f.poll(), None, "one response at a time");
    }
    f.accept(&first);
    let second = f.poll().unwrap();
    assert_eq!(contents(&second), one("a", "4"));
    f.set(Kind::Service, "a", Some("5"));
    f.set(Kind::Service, "a", Some("4"));
    f.accept(&second);
    assert_eq!(f.poll(), None, "back at what the client has");
    assert_eq!(f.confirmed(), f.epoch);
}

#[test]
fn types_do_not_wait_for_each_other() {
    let mut f = Fixture::default();
    for kind in [Kind::Address, Kind::Service, Kind::Endpoints] {
        f.set(kind, "a", Some("1"));
        f.subscribe(kind, "a", Held::Nothing);
    }
    let urls: Vec<_> = std::iter::from_fn(|| f.poll())
        .map(|frame| frame.type_url)
        .collect();
    let order = [Kind::Endpoints, Kind::Service, Kind::Address].map(Kind::type_url);
    assert_eq!(urls, order);
}

#[test]
fn an_absent_name_is_an_answer_and_stays_subscribed() {
    let mut f = Fixture::default();
    f.subscribe(Kind::Address, "10.0.0.1:80", Held::Nothing);
    let answer = f.poll().unwrap();
    assert_eq!(contents(&answer), [("10.0.0.1:80".into(), None)]);
    f.accept(&answer);
    f.set(Kind::Address, "10.0.0.1:80", Some("somebody"));
    let pushed = f.poll().unwrap();
    assert_eq!(contents(&pushed), one("10.0.0.1:80", "somebody"));
    f.accept(&pushed);
    f.set(Kind::Address, "10.0.0.1:80", None);
    let gone = f.poll().unwrap();
    assert_eq!(gone.removed_resources, ["10.0.0.1:80"]);
    assert!(gone.resources.is_empty());
}

#[test]
fn a_removal_comes_after_everything_that_was_due_with_it() {
    let mut f = Fixture::default();
    for (kind, name) in [
        (Kind::Service, "s"),
        (Kind::Endpoints, "old"),
        (Kind::Endpoints, "busy"),
    ] {
        f.set(kind, name, Some("1"));
        f.subscribe(kind, name, Held::Nothing);
    }
    while let Some(frame) = f.poll() {
        f.accept(&frame);
    }
    f.set(Kind::Service, "s", Some("2"));
    f.set(Kind::Endpoints, "old", None);
    let service = f.poll().unwrap();
    assert_eq!(contents(&service), one("s", "2"));
    assert_eq!(f.poll(), None, "the service may still refer to the bucket");

    // A younger change overtakes it, and does not hold it back for ever.
    f.set(Kind::Endpoints, "busy", Some("2"));
    let busy = f.poll().unwrap();
    assert_eq!(contents(&busy), one("busy", "2"));
    assert!(busy.removed_resources.is_empty());
    f.set(Kind::Endpoints, "busy", Some("3"));
    f.accept(&service);
    f.accept(&busy);
    let last = f.poll().unwrap();
    assert_eq!(contents(&last), one("busy", "3"));
    assert_eq!(last.removed_resources, ["old"]);
}

#[test]
fn a_client_that_comes_back_gets_the_differences() {
    let mut f = Fixture::default();
    f.set(Kind::Service, "same", Some("1"));
    f.set(Kind::Service, "changed", Some("1"));
    let changed = f.version(Kind::Service, "changed");
    f.set(Kind::Service, "changed", Some("2"));
    let same = f.version(Kind::Service, "same");
    f.subscribe(Kind::Service, "same", Held::Version(same));
    f.subscribe(Kind::Service, "changed", Held::Version(changed));
    f.subscribe(Kind::Service, "gone", Held::Version(changed));
    f.subscribe(Kind::Service, "foreign", Held::Other);
    assert_eq!(f.confirmed(), 0, "it may act on anything");
    let first = f.poll().unwrap();
    assert_eq!(contents(&first), one("changed", "2"));
    assert!(first.removed_resources.is_empty());
    f.accept(&first);
    let mut second = f.poll().unwrap();
    second.removed_resources.sort();
    assert_eq!(second.removed_resources, ["foreign", "gone"]);
    f.accept(&second);
    assert_eq!(f.confirmed(), f.epoch);
}

#[test]
fn a_refused_version_is_not_sent_again() {
    let mut f = Fixture::default();
    f.set(Kind::Service, "a", Some("good"));
    f.subscribe(Kind::Service, "a", Held::Nothing);
    let first = f.poll().unwrap();
    f.accept(&first);
    f.set(Kind::Service, "a", Some("bad"));
    let refused_at = f.epoch;
    let bad = f.poll().unwrap();
    let request = DeltaDiscoveryRequest {
        response_nonce: bad.nonce.clone(),
        error_detail: Some(weft_proto::google::rpc::Status {
            message: "all of it".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let refusals = f.session.acknowledge(Kind::Service, &request);
    assert_eq!(refusals[0].reason, "all of it");
    assert_eq!(f.poll(), None);
    f.session.changed(Kind::Service, "a", f.epoch);
    assert_eq!(f.poll(), None, "nothing new");
    let since: Vec<u64> = f
        .session
        .refused()
        .map(|(.., refused)| refused.since)
        .collect();
    assert_eq!(since, [refused_at]);

    f.set(Kind::Service, "a", Some("better"));
    let better = f.poll().unwrap();
    assert_eq!(contents(&better), one("a", "better"));
    f.accept(&better);
    assert_eq!(f.session.refused().count(), 0);
}

#[test]
fn who_asks_again_gets_it_again_and_a_stale_answer_counts_for_nothing() {
    let mut f = Fixture::default();
    f.set(Kind::Service, "a", Some("1"));
    f.subscribe(Kind::Service, "a", Held::Nothing);
    let first = f.poll().unwrap();
    f.session.unsubscribe(Kind::Service, "a");
    f.subscribe(Kind::Service, "a", Held::Nothing);
    f.accept(&first);
    let second = f.poll().unwrap();
    assert_eq!(contents(&second), one("a", "1"));
    f.accept(&first);
    assert_eq!(f.poll(), None);
    assert_eq!(f.session.pending().count(), 1, "the second is still out");
}

#[test]
fn much_comes_in_several_responses() {
    let mut f = Fixture::default();
    let large = "x".repeat(600_000);
    for name in ["a", "b", "c"] {
        f.set(Kind::Service, name, Some(&large));
        f.subscribe(Kind::Service, name, Held::Nothing);
    }
    let first = f.poll().unwrap();
    assert_eq!(first.resources.len(), 2);
    f.accept(&first);
    let second = f.poll().unwrap();
    assert_eq!(second.resources.len(), 1);
}

#[test]
fn a_first_look_up_holds_no_epoch_back_but_a_policy_does() {
    let mut f = Fixture::default();
    f.set(Kind::Service, "a", Some("1"));
    f.subscribe(Kind::Service, "a", Held::Nothing);
    let service = f.poll().unwrap();
    assert_eq!(f.confirmed(), 1, "nothing stale can be in force");
    f.set(Kind::Service, "a", Some("2"));
    assert_eq!(f.confirmed(), 1, "what is out may be in force");
    f.accept(&service);
    let service = f.poll().unwrap();
    f.accept(&service);
    assert_eq!(f.confirmed(), 2);

    let mut f = Fixture::default();
    f.set(Kind::Inbound, "shop/web-1", Some("1"));
    f.subscribe(Kind::Inbound, "shop/web-1", Held::Nothing);
    let inbound = f.poll().unwrap();
    assert_eq!(f.confirmed(), 0);
    f.accept(&inbound);
    assert_eq!(f.confirmed(), 1);
}
