//! The delta protocol as the control plane sees it.

use weft_proxy_config::Store;

use super::*;
use crate::samples::{activation, address, bucket, inbound, service_update, wire};

const WEB: &str = "10.96.0.1:80";

struct Stream {
    session: Session,
    activation: Activation,
    store: std::sync::Arc<Store>,
    nonce: u32,
    now: Instant,
}

impl Stream {
    fn new() -> (Self, Vec<DeltaDiscoveryRequest>) {
        let (store, activation) = activation();
        Self::over(store, activation)
    }

    fn over(
        store: std::sync::Arc<Store>,
        activation: Activation,
    ) -> (Self, Vec<DeltaDiscoveryRequest>) {
        let mut stream = Self {
            session: Session::new("shop/web-1".parse().unwrap()),
            activation,
            store,
            nonce: 0,
            now: Instant::now(),
        };
        let first = stream.session.refresh(&stream.activation, stream.now);
        (stream, first)
    }

    fn refresh(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.session.refresh(&self.activation, self.now)
    }

    fn send(&mut self, kind: Kind, updates: Vec<Update>) -> Vec<DeltaDiscoveryRequest> {
        self.nonce += 1;
        let resources = updates.into_iter().map(|update| {
            let body = update.body;
            Resource {
                name: update.name,
                version: body
                    .as_ref()
                    .map_or_else(String::new, |wire| wire.version.clone()),
                resource: body.map(|wire| prost_types::Any {
                    type_url: kind.type_url().to_owned(),
                    value: wire.bytes.to_vec(),
                }),
                aliases: vec![],
            }
        });
        let response = DeltaDiscoveryResponse {
            type_url: kind.type_url().to_owned(),
            nonce: self.nonce.to_string(),
            resources: resources.collect(),
            ..Default::default()
        };
        self.session
            .receive(response, &mut self.activation, self.now)
    }

    /// `shop/web` behind `WEB`, in force and acknowledged.
    fn with_web() -> Self {
        let (mut stream, _) = Self::new();
        stream.activation.want(WEB.parse().unwrap());
        stream.refresh();
        stream.send(Kind::Address, vec![address("a1", WEB, "web")]);
        stream.send(Kind::Service, vec![service_update("s1", "web", &[])]);
        stream.send(
            Kind::Endpoints,
            vec![bucket("e1", "shop/web/0", &["10.0.0.1"])],
        );
        assert!(stream.session.is_confirmed());
        stream
    }
}

/// `+name -name !nonce(refused names)` of each request, with its type.
fn said(requests: &[DeltaDiscoveryRequest]) -> Vec<String> {
    requests
        .iter()
        .map(|request| {
            let kind = Kind::from_type_url(&request.type_url).unwrap();
            let mut words = vec![kind.to_string()];
            words.extend(
                request
                    .resource_names_subscribe
                    .iter()
                    .map(|n| format!("+{n}")),
            );
            words.extend(
                request
                    .resource_names_unsubscribe
                    .iter()
                    .map(|n| format!("-{n}")),
            );
            if !request.response_nonce.is_empty() {
                words.push(format!("ack {}", request.response_nonce));
            }
            words.extend(
                refusals(request)
                    .iter()
                    .map(|r| format!("refused {}", r.resource)),
            );
            words.join(" ")
        })
        .collect()
}

fn refusals(request: &DeltaDiscoveryRequest) -> Vec<Refusal> {
    let details = request
        .error_detail
        .iter()
        .flat_map(|status| &status.details);
    details
        .map(|any| {
            assert_eq!(any.type_url, type_url::REFUSAL);
            Refusal::decode(any.value.as_slice()).unwrap()
        })
        .collect()
}

#[test]
fn a_stream_begins_with_who_it_is_and_what_everyone_needs() {
    let (_, first) = Stream::new();
    assert_eq!(
        said(&first),
        [
            "TrustBundle +default",
            "MeshConfig +default",
            "Inbound +shop/web-1"
        ]
    );
    assert_eq!(first[0].node.as_ref().unwrap().id, "shop/web-1");
    assert!(first[1..].iter().all(|request| request.node.is_none()));
    assert!(first[0].initial_resource_versions.is_empty());
    assert_eq!(first[1].initial_resource_versions["default"], "m1");
}

#[test]
fn a_later_stream_resumes_with_what_is_in_force() {
    let Stream {
        store, activation, ..
    } = Stream::with_web();
    let (_, first) = Stream::over(store, activation);
    let versions: BTreeMap<_, _> = first
        .iter()
        .flat_map(|request| request.initial_resource_versions.clone())
        .collect();
    let expected = [
        ("default", "m1"),
        ("shop/web/0", "e1"),
        ("shop/web?from=shop", "s1"),
        (WEB, "a1"),
    ];
    let expected = expected.map(|(name, version)| (name.to_owned(), version.to_owned()));
    assert_eq!(versions, BTreeMap::from(expected));
}

#[test]
fn look_ups_follow_the_answers_and_are_acknowledged_at_once() {
    let (mut stream, _) = Stream::new();
    stream.activation.want(WEB.parse().unwrap());
    assert_eq!(said(&stream.refresh()), [format!("Address +{WEB}")]);
    assert_eq!(
        said(&stream.send(Kind::Address, vec![address("a1", WEB, "web")])),
        ["Service +shop/web?from=shop", "Address ack 1"]
    );
    assert_eq!(
        said(&stream.send(Kind::Service, vec![service_update("s1", "web", &[])])),
        ["Endpoints +shop/web/0", "Service ack 2"]
    );
    let last = stream.send(
        Kind::Endpoints,
        vec![bucket("e1", "shop/web/0", &["10.0.0.1"])],
    );
    assert_eq!(said(&last), ["Endpoints ack 3"]);
    assert!(stream.store.resolved(WEB.parse().unwrap()).is_some());
}

#[test]
fn an_acknowledgement_means_activated() {
    let (mut stream, _) = Stream::new();
    // First policies: nothing is in force, and that is not to be replaced by half of it.
    let waiting = stream.send(Kind::Inbound, vec![inbound("i1", &[("shop/p", "p1")])]);
    assert_eq!(said(&waiting), ["Authorization +shop/p"]);
    assert!(!stream.session.is_confirmed());
    let allow = crate::samples::policy(weft_proto::mesh::Action::Allow, "shop");
    let policy = crate::samples::update("shop/p", "p1", &allow);
    assert_eq!(
        said(&stream.send(Kind::Authorization, vec![policy])),
        ["Inbound ack 1", "Authorization ack 2"]
    );
    assert!(stream.store.inbound().is_some());
}

#[test]
fn a_service_that_waits_for_another_does_not_block_it() {
    let mut stream = Stream::with_web();
    let requests = stream.send(
        Kind::Service,
        vec![service_update("s2", "web", &["canary"])],
    );
    assert_eq!(
        said(&requests),
        [
            "Service +shop/canary?from=shop +shop/web?from=shop",
            "Service ack 4"
        ],
        "due again before it is acknowledged"
    );
    let both = vec![
        service_update("c1", "canary", &[]),
        service_update("s2", "web", &["canary"]),
    ];
    assert_eq!(
        said(&stream.send(Kind::Service, both)),
        ["Endpoints +shop/canary/0"]
    );
    let bucket = bucket("e1", "shop/canary/0", &["10.0.0.2"]);
    assert_eq!(
        said(&stream.send(Kind::Endpoints, vec![bucket])),
        ["Service ack 5", "Endpoints ack 6"]
    );
}

#[test]
fn one_that_waits_in_vain_is_refused_and_asked_for_again_when_it_is_whole() {
    let mut stream = Stream::with_web();
    stream.send(
        Kind::Service,
        vec![service_update("s2", "web", &["canary"])],
    );
    let both = vec![
        service_update("c1", "canary", &[]),
        service_update("s2", "web", &["canary"]),
    ];
    stream.send(Kind::Service, both);
    let deadline = stream.session.next_deadline().unwrap();
    assert_eq!(deadline, stream.now + PATIENCE);
    stream.now = deadline - Duration::from_millis(1);
    assert!(stream.refresh().is_empty());
    stream.now = deadline;
    let requests = stream.refresh();
    assert_eq!(
        said(&requests),
        ["Service ack 5 refused shop/web?from=shop"]
    );
    assert_eq!(
        refusals(&requests[0])[0].reason,
        "still waits for endpoints shop/canary/0"
    );
    assert_eq!(stream.session.refused().count(), 1);
    assert_eq!(stream.session.next_deadline(), None);
    let bucket = bucket("e1", "shop/canary/0", &["10.0.0.2"]);
    assert_eq!(
        said(&stream.send(Kind::Endpoints, vec![bucket])),
        ["Service +shop/web?from=shop", "Endpoints ack 6"]
    );
    assert_eq!(stream.session.refused().count(), 0);
}

#[test]
fn the_bad_one_is_refused_by_name_and_the_rest_applied() {
    let mut stream = Stream::with_web();
    let broken = Update {
        name: "shop/web/0".into(),
        body: Some(Wire {
            version: "e2".into(),
            bytes: vec![0xff].into(),
        }),
    };
    let requests = stream.send(Kind::Endpoints, vec![broken]);
    assert_eq!(said(&requests), ["Endpoints ack 4 refused shop/web/0"]);
    let mut bad_address = crate::samples::endpoint("10.0.0.300");
    bad_address.weight = 2;
    let bad = weft_proto::mesh::Endpoints {
        endpoints: vec![crate::samples::endpoint("10.0.0.1"), bad_address],
    };
    let bad = crate::samples::update("shop/web/0", "e3", &bad);
    let requests = stream.send(Kind::Endpoints, vec![bad]);
    let refusal = &refusals(&requests[0])[0];
    assert_eq!(refusal.field, "endpoints[1].address");
    let good = bucket("e4", "shop/web/0", &["10.0.0.2"]);
    assert_eq!(
        said(&stream.send(Kind::Endpoints, vec![good])),
        ["Endpoints ack 6"]
    );
    assert_eq!(stream.session.refused().count(), 0);
}

#[test]
fn an_unknown_type_is_refused_and_a_wrong_body_too() {
    let (mut stream, _) = Stream::new();
    let response = DeltaDiscoveryResponse {
        type_url: "type.googleapis.com/weft.mesh.v1.New".into(),
        nonce: "9".into(),
        ..Default::default()
    };
    let now = stream.now;
    let requests = stream
        .session
        .receive(response, &mut stream.activation, now);
    assert_eq!(requests[0].response_nonce, "9");
    assert!(requests[0].error_detail.is_some());
    let response = DeltaDiscoveryResponse {
        type_url: Kind::MeshConfig.type_url().into(),
        nonce: "10".into(),
        resources: vec![Resource {
            name: "default".into(),
            version: "x".into(),
            resource: Some(prost_types::Any {
                type_url: Kind::Inbound.type_url().into(),
                value: wire("x", &weft_proto::mesh::Inbound::default())
                    .bytes
                    .to_vec(),
            }),
            aliases: vec![],
        }],
        ..Default::default()
    };
    let requests = stream
        .session
        .receive(response, &mut stream.activation, now);
    assert_eq!(said(&requests), ["MeshConfig ack 10 refused default"]);
}

#[test]
fn what_is_no_longer_needed_is_let_go() {
    let mut stream = Stream::with_web();
    for _ in 0..=weft_proxy_config::StoreLimits::default().idle_sweeps {
        assert!(stream.refresh().is_empty());
        stream.activation.sweep();
    }
    assert_eq!(
        said(&stream.refresh()),
        [
            "Endpoints -shop/web/0".to_owned(),
            "Service -shop/web?from=shop".to_owned(),
            format!("Address -{WEB}")
        ]
    );
}
