//! The order in which things take effect.

use std::net::SocketAddr;

use weft_identity::SpiffeId;
use weft_proxy_config::{
    Decision, Peer, RefusedReason, Resolution, RouteOutcome, Store, WeightedBackendTarget,
};

use super::*;
use crate::samples::{
    absent, activation, address, bucket, inbound, mesh_config, policy, service_update, update,
};

const WEB: &str = "10.96.0.1:80";

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn apply(activation: &mut Activation, kind: Kind, update: Update) {
    assert_eq!(activation.apply(kind, vec![update], vec![]), []);
}

/// Where a request to an address would go: the endpoints of the first backend of the first rule, or of the
/// service itself.
fn reached(store: &Store, to: &str) -> String {
    let Some(Resolution::Service { service, port }) = store.resolved(at(to)) else {
        return "nothing".to_owned();
    };
    let service = service.load();
    let port = service.port(port).unwrap();
    let headers = Default::default();
    let request = weft_proxy_config::RequestView {
        method: &"GET".parse().unwrap(),
        path: "/",
        query: None,
        headers: &headers,
        host: None,
    };
    let backend = match port.route(&request) {
        RouteOutcome::Rule(rule) => match &rule.backends()[0].target {
            WeightedBackendTarget::Backend(backend) => backend.clone(),
            WeightedBackendTarget::Invalid(reason) => return reason.to_string(),
        },
        _ => port.own.clone(),
    };
    let snapshot = backend.load();
    let ends: Vec<_> = snapshot
        .targets()
        .iter()
        .map(|t| t.addr.ip().to_string())
        .collect();
    format!("{} {}", backend.name(), ends.join(" "))
}

fn waits(activation: &Activation, kind: Kind, name: &str) -> Option<String> {
    match activation.progress(kind, name) {
        Progress::InForce => None,
        Progress::WaitingFor(what) => Some(what),
    }
}

fn names(activation: &Activation, kind: Kind) -> Vec<String> {
    let names = activation.desired().remove(&kind).unwrap_or_default();
    names.into_iter().collect()
}

/// `shop/web` behind `WEB`, in force.
fn with_web() -> (Arc<Store>, Activation) {
    let (store, mut activation) = activation();
    activation.want(at(WEB));
    apply(&mut activation, Kind::Address, address("a1", WEB, "web"));
    apply(
        &mut activation,
        Kind::Service,
        service_update("s1", "web", &[]),
    );
    apply(
        &mut activation,
        Kind::Endpoints,
        bucket("e1", "shop/web/0", &["10.0.0.1"]),
    );
    assert_eq!(reached(&store, WEB), "web 10.0.0.1");
    (store, activation)
}

#[test]
fn each_answer_says_what_to_ask_for_next() {
    let (store, mut activation) = activation();
    assert_eq!(names(&activation, Kind::Inbound), ["shop/web-1"]);
    activation.want(at(WEB));
    assert_eq!(names(&activation, Kind::Address), [WEB]);
    apply(&mut activation, Kind::Address, address("a1", WEB, "web"));
    assert_eq!(names(&activation, Kind::Service), ["shop/web?from=shop"]);
    apply(
        &mut activation,
        Kind::Service,
        service_update("s1", "web", &[]),
    );
    assert_eq!(names(&activation, Kind::Endpoints), ["shop/web/0"]);
    assert_eq!(reached(&store, WEB), "nothing");
    apply(
        &mut activation,
        Kind::Endpoints,
        bucket("e1", "shop/web/0", &["10.0.0.1"]),
    );
    assert_eq!(reached(&store, WEB), "web 10.0.0.1");
}

#[test]
fn new_routes_wait_for_all_that_they_lead_to() {
    let (store, mut activation) = with_web();
    apply(
        &mut activation,
        Kind::Service,
        service_update("s2", "web", &["canary"]),
    );
    assert_eq!(reached(&store, WEB), "web 10.0.0.1");
    assert_eq!(
        waits(&activation, Kind::Service, "shop/web?from=shop").as_deref(),
        Some("service shop/canary")
    );
    assert_eq!(
        names(&activation, Kind::Service),
        ["shop/canary?from=shop", "shop/web?from=shop"]
    );
    apply(
        &mut activation,
        Kind::Service,
        service_update("c1", "canary", &["elsewhere"]),
    );
    assert_eq!(reached(&store, WEB), "web 10.0.0.1");
    assert_eq!(
        names(&activation, Kind::Endpoints),
        ["shop/canary/0", "shop/web/0"]
    );
    apply(
        &mut activation,
        Kind::Endpoints,
        bucket("e2", "shop/canary/0", &["10.0.0.9"]),
    );
    assert_eq!(reached(&store, WEB), "canary 10.0.0.9");
    assert_eq!(
        waits(&activation, Kind::Service, "shop/web?from=shop"),
        None
    );
    assert_eq!(
        names(&activation, Kind::Service),
        ["shop/canary?from=shop", "shop/web?from=shop"],
        "where the canary's own routes lead to does not matter here"
    );
}

#[test]
fn a_backend_that_is_known_not_to_exist_is_not_waited_for() {
    let (store, mut activation) = with_web();
    apply(
        &mut activation,
        Kind::Service,
        service_update("s2", "web", &["gone"]),
    );
    apply(
        &mut activation,
        Kind::Service,
        absent("shop/gone?from=shop"),
    );
    assert_eq!(reached(&store, WEB), "gone ");
}

#[test]
fn services_that_lead_to_each_other_take_effect() {
    let (store, mut activation) = activation();
    let other = "10.96.0.2:80";
    for (to, name) in [(WEB, "a"), (other, "b")] {
        activation.want(at(to));
        apply(&mut activation, Kind::Address, address("a1", to, name));
    }
    apply(
        &mut activation,
        Kind::Service,
        service_update("1", "a", &["b"]),
    );
    apply(
        &mut activation,
        Kind::Service,
        service_update("1", "b", &["a"]),
    );
    apply(
        &mut activation,
        Kind::Endpoints,
        bucket("1", "shop/a/0", &["10.0.0.1"]),
    );
    assert_eq!(reached(&store, WEB), "nothing");
    apply(
        &mut activation,
        Kind::Endpoints,
        bucket("1", "shop/b/0", &["10.0.0.2"]),
    );
    assert_eq!(
        (reached(&store, WEB), reached(&store, other)),
        ("b 10.0.0.2".into(), "a 10.0.0.1".into())
    );
}

#[test]
fn an_address_moves_when_its_new_service_is_in_force() {
    let (store, mut activation) = with_web();
    apply(&mut activation, Kind::Address, address("a2", WEB, "new"));
    assert_eq!(reached(&store, WEB), "web 10.0.0.1");
    assert_eq!(
        waits(&activation, Kind::Address, WEB).as_deref(),
        Some("service shop/new")
    );
    apply(
        &mut activation,
        Kind::Service,
        service_update("n1", "new", &[]),
    );
    apply(
        &mut activation,
        Kind::Endpoints,
        bucket("n1", "shop/new/0", &["10.0.0.5"]),
    );
    assert_eq!(reached(&store, WEB), "new 10.0.0.5");
    assert_eq!(names(&activation, Kind::Service), ["shop/new?from=shop"]);
}

#[test]
fn endpoints_take_effect_at_once_and_keep_their_state() {
    let (store, mut activation) = with_web();
    let id = |store: &Store| match store.resolved(at(WEB)) {
        Some(Resolution::Service { service, .. }) => {
            let service = service.load();
            service.ports[0].own.load().targets()[0].id()
        }
        _ => 0,
    };
    let before = id(&store);
    apply(
        &mut activation,
        Kind::Endpoints,
        bucket("e2", "shop/web/0", &["10.0.0.1", "10.0.0.2"]),
    );
    assert_eq!(reached(&store, WEB), "web 10.0.0.1 10.0.0.2");
    assert_eq!(id(&store), before);
    activation.apply(Kind::Endpoints, vec![], vec!["shop/web/0".into()]);
    assert_eq!(reached(&store, WEB), "web ");
}

#[test]
fn nobody_and_a_pod_itself_are_answers() {
    let (store, mut activation) = activation();
    activation.want(at(WEB));
    apply(&mut activation, Kind::Address, absent(WEB));
    assert!(matches!(
        store.resolved(at(WEB)),
        Some(Resolution::Refused(RefusedReason::UnknownMeshAddress))
    ));
    let pod = mesh::Address {
        target: Some(mesh::address::Target::Workload(mesh::WorkloadPort {
            endpoint: Some(crate::samples::endpoint("10.0.0.7")),
            port: 9999,
        })),
    };
    apply(&mut activation, Kind::Address, update(WEB, "a2", &pod));
    let Some(Resolution::Workload(backend)) = store.resolved(at(WEB)) else {
        panic!("not the pod");
    };
    let target = &backend.load().targets()[0].clone();
    assert_eq!(target.addr, at("10.0.0.7:9999"));
    assert!(
        target.mtls,
        "a port that is not listed is never spoken to in plaintext"
    );
    activation.apply(Kind::Address, vec![], vec![WEB.into()]);
    assert!(matches!(
        store.resolved(at(WEB)),
        Some(Resolution::Refused(_))
    ));
}

#[test]
fn what_cannot_be_read_is_refused_alone_and_the_last_good_one_stays() {
    let (store, mut activation) = with_web();
    let mut broken = crate::samples::service("web", &["canary"]);
    broken.ports[0].rules[0].r#match = Some(mesh::HttpMatch {
        path: Some(mesh::PathMatch { kind: None }),
        ..Default::default()
    });
    let refused = activation.apply(
        Kind::Service,
        vec![
            update("shop/web?from=shop", "s2", &broken),
            service_update("o1", "other", &[]),
        ],
        vec![],
    );
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].0, "shop/web?from=shop");
    assert_eq!(refused[0].1.field, "ports[0].rules[0].match.path");
    assert_eq!(reached(&store, WEB), "web 10.0.0.1");
}

fn decision(store: &Store, namespace: &str) -> String {
    let Some(inbound) = store.inbound() else {
        return "nothing is taken".to_owned();
    };
    let id = SpiffeId::parse(&format!("spiffe://cluster.local/ns/{namespace}/sa/x")).unwrap();
    let peer = Peer {
        identity: Some(&id),
        address: [10, 0, 0, 1].into(),
        port: 80,
    };
    match inbound.authorize_connection(&peer) {
        Decision::Allow => "allowed".to_owned(),
        Decision::Deny(by) => by.to_string(),
    }
}

#[test]
fn an_inbound_takes_effect_with_exactly_its_policies() {
    let (store, mut activation) = activation();
    apply(
        &mut activation,
        Kind::Inbound,
        inbound("i1", &[("shop/p", "p1"), ("shop/q", "q1")]),
    );
    assert_eq!(
        names(&activation, Kind::Authorization),
        ["shop/p", "shop/q"]
    );
    let allow = policy(mesh::Action::Allow, "shop");
    apply(
        &mut activation,
        Kind::Authorization,
        update("shop/p", "p1", &allow),
    );
    assert_eq!(decision(&store, "shop"), "nothing is taken");
    assert_eq!(
        waits(&activation, Kind::Inbound, "shop/web-1").as_deref(),
        Some("policy shop/q at q1")
    );
    let deny = policy(mesh::Action::Deny, "evil");
    apply(
        &mut activation,
        Kind::Authorization,
        update("shop/q", "q1", &deny),
    );
    assert_eq!(decision(&store, "shop"), "allowed");
    assert_eq!(decision(&store, "evil"), "shop/q#0@q1");

    // A new version alone changes nothing: the inbound names the old one.
    let stricter = policy(mesh::Action::Allow, "other");
    apply(
        &mut activation,
        Kind::Authorization,
        update("shop/p", "p2", &stricter),
    );
    assert_eq!(decision(&store, "shop"), "allowed");
    apply(
        &mut activation,
        Kind::Inbound,
        inbound("i2", &[("shop/p", "p2")]),
    );
    assert_eq!(decision(&store, "shop"), "default-deny@i2");
    assert_eq!(names(&activation, Kind::Authorization), ["shop/p"]);
}

#[test]
fn an_unreadable_policy_keeps_its_last_good_version() {
    let (store, mut activation) = activation();
    let allow = policy(mesh::Action::Allow, "shop");
    apply(
        &mut activation,
        Kind::Inbound,
        inbound("i1", &[("shop/p", "p1")]),
    );
    apply(
        &mut activation,
        Kind::Authorization,
        update("shop/p", "p1", &allow),
    );
    let unknown = mesh::Authorization {
        action: 77,
        ..policy(mesh::Action::Allow, "shop")
    };
    let refused = activation.apply(
        Kind::Authorization,
        vec![update("shop/p", "p2", &unknown)],
        vec![],
    );
    assert_eq!(refused[0].1.field, "action");
    apply(
        &mut activation,
        Kind::Inbound,
        inbound("i2", &[("shop/p", "p2")]),
    );
    assert_eq!(decision(&store, "shop"), "allowed");
    assert_eq!(decision(&store, "evil"), "default-deny@i2");
}

#[test]
fn an_unreadable_policy_without_a_good_version_denies_what_it_guards() {
    let (store, mut activation) = activation();
    apply(
        &mut activation,
        Kind::Inbound,
        inbound("i1", &[("shop/p", "p1")]),
    );
    let unknown = mesh::Authorization {
        action: 77,
        rules: vec![],
    };
    activation.apply(
        Kind::Authorization,
        vec![update("shop/p", "p1", &unknown)],
        vec![],
    );
    assert_eq!(decision(&store, "shop"), "shop/p#unreadable@p1");
}

#[test]
fn what_was_in_force_comes_back_from_what_was_kept() {
    let (_, mut first) = with_web();
    apply(
        &mut first,
        Kind::Inbound,
        inbound("i1", &[("shop/p", "p1")]),
    );
    let allow = policy(mesh::Action::Allow, "shop");
    apply(
        &mut first,
        Kind::Authorization,
        update("shop/p", "p1", &allow),
    );
    // Not in force, so not kept.
    apply(
        &mut first,
        Kind::Authorization,
        update("shop/p", "p2", &allow),
    );
    apply(
        &mut first,
        Kind::Service,
        service_update("s2", "web", &["canary"]),
    );

    let mut kept = first.active();
    kept.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    let (store, mut second) = activation();
    second.restore(kept.clone());
    assert_eq!(reached(&store, WEB), "web 10.0.0.1");
    assert_eq!(decision(&store, "shop"), "allowed");
    let mut again = second.active();
    again.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    assert_eq!(again, kept);
}

#[test]
fn names_that_are_none_are_refused() {
    let (_, mut activation) = activation();
    let refused = |activation: &mut Activation, kind, update| {
        activation.apply(kind, vec![update], vec![]).len()
    };
    let service = update("web", "1", &crate::samples::service("web", &[]));
    assert_eq!(refused(&mut activation, Kind::Service, service), 1);
    let other = update(
        "shop/b?from=shop",
        "1",
        &crate::samples::service("web", &[]),
    );
    assert_eq!(refused(&mut activation, Kind::Service, other), 1);
    assert_eq!(
        refused(
            &mut activation,
            Kind::Endpoints,
            bucket("1", "shop/web/x", &[])
        ),
        1
    );
    assert_eq!(
        refused(&mut activation, Kind::Address, absent("no-address")),
        1
    );
    let mut mesh = mesh_config();
    mesh.outbound_policy = 9;
    assert_eq!(
        refused(
            &mut activation,
            Kind::MeshConfig,
            update("default", "2", &mesh)
        ),
        1
    );
}
