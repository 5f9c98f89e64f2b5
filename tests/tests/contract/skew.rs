//! A control plane that is newer than the proxy: what the proxy does not know must never widen access nor send a request astray.

use std::sync::Arc;

use prost::Message;
use weft_identity::SpiffeId;
use weft_proto::mesh;
use weft_proxy_config::{Peer, Store};
use weft_proxy_xds::{Kind, Offline, RefusedResource};

use crate::wire::pod;

/// A later control plane's message may carry fields that this proxy has no name for.
#[derive(Clone, PartialEq, Message)]
struct NewerCondition {
    #[prost(string, tag = "900")]
    moon_phase: String,
}

fn newer_condition() -> mesh::Condition {
    let newer = NewerCondition {
        moon_phase: "full".into(),
    };
    mesh::Condition::decode(newer.encode_to_vec().as_slice()).unwrap()
}

fn policy(action: i32, condition: mesh::Condition) -> mesh::Authorization {
    mesh::Authorization {
        action,
        rules: vec![mesh::Rule {
            name: "r".into(),
            condition: Some(condition),
        }],
    }
}

/// A pod's proxy under one policy, in the order in which the stream sends.
fn under(policy: &mesh::Authorization) -> (Arc<Store>, Result<(), RefusedResource>) {
    let (store, mut proxy) = Offline::new(pod("shop/web-1"));
    let inbound = mesh::Inbound {
        namespace: "shop".into(),
        pod: "web-1".into(),
        mtls: mesh::MtlsMode::Permissive.into(),
        policies: vec![mesh::PolicyRef {
            name: "shop/p".into(),
            version: "p1".into(),
            ports: Vec::new(),
        }],
        ..Default::default()
    };
    proxy
        .apply(Kind::Inbound, "shop/web-1", sent("i1", &inbound))
        .unwrap();
    let outcome = proxy.apply(Kind::Authorization, "shop/p", sent("p1", policy));
    (store, outcome)
}

fn sent(version: &str, message: &impl Message) -> Option<(String, bytes::Bytes)> {
    Some((version.to_owned(), message.encode_to_vec().into()))
}

fn lets_in(store: &Store) -> bool {
    let identity: SpiffeId = "spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap();
    let peer = Peer {
        identity: Some(&identity),
        address: "10.0.0.9".parse().unwrap(),
        port: 80,
    };
    let inbound = store.inbound();
    inbound.is_some_and(|inbound| inbound.authorize_connection(&peer).is_allowed())
}

#[test]
fn a_condition_of_a_newer_kind_never_widens_access() {
    use mesh::condition::Kind::{All, Not};
    let plain = newer_condition();
    assert_eq!(plain.kind, None);
    let negated = mesh::Condition {
        kind: Some(Not(Box::new(newer_condition()))),
    };
    let among_others = mesh::Condition {
        kind: Some(All(mesh::All {
            conditions: vec![newer_condition()],
        })),
    };
    for condition in [plain, negated, among_others] {
        for action in [mesh::Action::Allow, mesh::Action::Deny] {
            let (store, outcome) = under(&policy(action.into(), condition.clone()));
            assert_eq!(outcome, Ok(()));
            assert!(store.inbound().is_some());
            assert!(!lets_in(&store), "{action:?} {condition:?}");
        }
    }
    let everybody = mesh::Condition {
        kind: Some(All(mesh::All::default())),
    };
    let (store, _) = under(&policy(mesh::Action::Allow.into(), everybody));
    assert!(lets_in(&store));
}

#[test]
fn an_action_of_a_newer_kind_refuses_the_policy_and_what_it_guards() {
    let (store, outcome) = under(&policy(77, newer_condition()));
    let refused = outcome.unwrap_err();
    assert_eq!(
        (refused.name.as_str(), refused.field.as_str()),
        ("shop/p", "action")
    );
    assert!(!lets_in(&store));
}

#[test]
fn a_match_of_a_newer_kind_refuses_the_service() {
    let rule = mesh::HttpRule {
        name: "r".into(),
        r#match: Some(mesh::HttpMatch {
            path: Some(mesh::PathMatch { kind: None }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let service = |rules| mesh::Service {
        namespace: "shop".into(),
        name: "web".into(),
        ports: vec![mesh::Port {
            port: 80,
            protocol: 99,
            routed: true,
            rules,
            ..Default::default()
        }],
        buckets: 1,
        ..Default::default()
    };
    let (_, mut proxy) = Offline::new(pod("shop/web-1"));
    let name = "shop/web?from=shop";
    let refused = proxy.apply(Kind::Service, name, sent("s1", &service(vec![rule])));
    assert_eq!(refused.unwrap_err().field, "ports[0].rules[0].match.path");
    // An unknown protocol is found out per connection: it only says when to dial.
    assert_eq!(
        proxy.apply(Kind::Service, name, sent("s2", &service(Vec::new()))),
        Ok(())
    );
}

#[test]
fn an_unknown_mtls_mode_or_outbound_policy_is_refused() {
    let (store, mut proxy) = Offline::new(pod("shop/web-1"));
    let inbound = mesh::Inbound {
        namespace: "shop".into(),
        pod: "web-1".into(),
        mtls: 9,
        ..Default::default()
    };
    let refused = proxy.apply(Kind::Inbound, "shop/web-1", sent("i1", &inbound));
    assert_eq!(refused.unwrap_err().field, "mtls");
    assert!(store.inbound().is_none());
    let config = mesh::MeshConfig {
        trust_domain: "cluster.local".into(),
        outbound_policy: 9,
        ..Default::default()
    };
    let refused = proxy.apply(Kind::MeshConfig, "default", sent("m1", &config));
    assert_eq!(refused.unwrap_err().field, "outbound_policy");
    assert!(!store.is_mesh_known());
}

#[test]
fn garbage_is_refused_by_name_and_the_last_good_one_stays() {
    use mesh::condition::Kind::All;
    let everybody = mesh::Condition {
        kind: Some(All(mesh::All::default())),
    };
    let (store, mut proxy) = Offline::new(pod("shop/web-1"));
    let inbound = mesh::Inbound {
        namespace: "shop".into(),
        pod: "web-1".into(),
        mtls: mesh::MtlsMode::Permissive.into(),
        policies: vec![mesh::PolicyRef {
            name: "shop/p".into(),
            version: "p1".into(),
            ports: Vec::new(),
        }],
        ..Default::default()
    };
    let good = policy(mesh::Action::Allow.into(), everybody);
    proxy
        .apply(Kind::Authorization, "shop/p", sent("p1", &good))
        .unwrap();
    proxy
        .apply(Kind::Inbound, "shop/web-1", sent("i1", &inbound))
        .unwrap();
    assert!(lets_in(&store));
    for kind in Kind::ALL {
        let name = match kind {
            Kind::Address => continue, // Nobody asked for one.
            Kind::Authorization => "shop/p",
            Kind::Inbound => "shop/web-1",
            Kind::Endpoints => "shop/web/0",
            Kind::Service => "shop/web?from=shop",
            Kind::TrustBundle | Kind::MeshConfig => "default",
        };
        let garbage = Some(("g".to_owned(), bytes::Bytes::from_static(b"\xff\xff\xff")));
        let refused = proxy.apply(kind, name, garbage).unwrap_err();
        assert_eq!(
            (refused.kind, refused.name),
            (kind.to_string(), name.to_owned())
        );
    }
    assert!(lets_in(&store));
}
