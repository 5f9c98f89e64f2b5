//! What can be read and what cannot.

use weft_proto::mesh::condition::Kind;
use weft_proxy_config::{
    Action, Balancing, Condition, EndpointState, HttpFilter, Inbound, MtlsMode, OutboundPolicy,
    Peer, Policy, PolicyBinding, RetryOn, ServiceName, WeightedBackendTarget,
};

use super::*;
use crate::samples;

fn name() -> ServiceName {
    ServiceName {
        namespace: "shop".into(),
        name: "web".into(),
    }
}

fn service_of(wire: mesh::Service) -> Result<ServiceSpec, Invalid> {
    service(&name(), wire, &mut weft_proxy_config::Backend::new)
}

fn with_rule(rule: mesh::HttpRule) -> mesh::Service {
    let mut wire = samples::service("web", &["web"]);
    wire.ports[0].rules = vec![rule];
    wire
}

fn fault(rule: mesh::HttpRule) -> String {
    service_of(with_rule(rule)).unwrap_err().field
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[test]
fn a_service_is_read_with_all_its_parts() {
    let mut wire = samples::service("web", &["canary"]);
    wire.addresses = vec!["10.96.0.1".into(), "fd00::1".into()];
    wire.ports[0].rules[0].request_timeout = seconds(0);
    wire.ports[0].rules[0].backend_timeout = seconds(3);
    wire.traffic_policy = Some(mesh::TrafficPolicy {
        balancing: mesh::Balancing::RoundRobin.into(),
        limits: Some(mesh::ConnectionLimits {
            max_requests: 7,
            ..Default::default()
        }),
        outlier_detection: Some(mesh::OutlierDetection::default()),
        retries: Some(mesh::RetryPolicy {
            attempts: 2,
            on: vec![mesh::RetryOn::Reset.into(), 999],
            budget_percent: 10,
            ..Default::default()
        }),
        request_timeout: seconds(0),
    });
    let spec = service_of(wire).unwrap();
    assert_eq!(
        spec.refers_to
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["shop/canary"]
    );
    let service = spec.service;
    assert_eq!(service.addresses.len(), 2);
    let port = service.port(80).unwrap();
    assert!(port.routed);
    assert_eq!(
        port.rules[0].request_timeout,
        Some(Duration::ZERO),
        "zero is no limit, not absent"
    );
    assert_eq!(port.rules[0].backend_timeout, Some(Duration::from_secs(3)));
    let policy = &service.policy;
    assert_eq!(policy.balancing, Balancing::RoundRobin);
    assert_eq!(policy.limits.max_requests, 7);
    assert_eq!(
        policy.limits.max_pending, 4096,
        "absent: the proxy's default"
    );
    assert_eq!(policy.outlier.as_ref().unwrap().consecutive_failures, 5);
    assert_eq!(
        policy.retries.on,
        [RetryOn::Reset],
        "an unknown condition is advisory"
    );
    assert_eq!(
        (policy.retries.attempts, policy.retries.budget_percent),
        (2, 10)
    );
    assert_eq!(policy.request_timeout, None);
}

#[test]
fn filters_and_backends_are_read() {
    let modifier = mesh::HeaderModifier {
        set: vec![mesh::HeaderValue {
            name: "X-A".into(),
            value: "1".into(),
        }],
        ..Default::default()
    };
    let redirect = mesh::Redirect {
        scheme: "https".into(),
        ..Default::default()
    };
    let filter = |kind| mesh::HttpFilter { kind: Some(kind) };
    use mesh::http_filter::Kind;
    let rule = mesh::HttpRule {
        filters: vec![
            filter(Kind::RequestHeaders(modifier)),
            filter(Kind::Redirect(redirect)),
        ],
        backends: vec![mesh::WeightedBackend {
            weight: 3,
            target: Some(mesh::weighted_backend::Target::Invalid(
                "no such service".into(),
            )),
            filters: vec![],
        }],
        ..Default::default()
    };
    let service = service_of(with_rule(rule)).unwrap().service;
    let rule = &service.ports[0].rules[0];
    assert!(matches!(
        rule.filters[..],
        [HttpFilter::RequestHeaders(_), HttpFilter::Redirect(_)]
    ));
    let WeightedBackendTarget::Invalid(reason) = &rule.backends()[0].target else {
        panic!("not invalid");
    };
    assert_eq!(&**reason, "no such service");
}

#[test]
fn what_decides_matching_and_is_not_known_refuses_the_service() {
    let rule = mesh::HttpRule::default();
    let matches = |part: mesh::HttpMatch| mesh::HttpRule {
        r#match: Some(part),
        ..mesh::HttpRule::default()
    };
    let path = |kind| {
        matches(mesh::HttpMatch {
            path: Some(mesh::PathMatch { kind }),
            ..Default::default()
        })
    };
    let at = "ports[0].rules[0]";
    assert_eq!(fault(path(None)), format!("{at}.match.path"));
    let broken = mesh::path_match::Kind::Regex("(".into());
    assert_eq!(fault(path(Some(broken))), format!("{at}.match.path.regex"));
    let header = mesh::HeaderMatch {
        name: "a".into(),
        kind: None,
    };
    let headers = mesh::HttpMatch {
        headers: vec![header],
        ..Default::default()
    };
    assert_eq!(
        fault(matches(headers)),
        format!("{at}.match.headers[0].value")
    );
    let method = mesh::HttpMatch {
        method: "GE T".into(),
        ..Default::default()
    };
    assert_eq!(fault(matches(method)), format!("{at}.match.method"));
    let unknown_filter = mesh::HttpRule {
        filters: vec![mesh::HttpFilter { kind: None }],
        ..rule.clone()
    };
    assert_eq!(fault(unknown_filter), format!("{at}.filters[0]"));
    let unknown_backend = mesh::HttpRule {
        backends: vec![mesh::WeightedBackend::default()],
        ..rule.clone()
    };
    assert_eq!(fault(unknown_backend), format!("{at}.backends[0].target"));
    let negative = mesh::HttpRule {
        request_timeout: seconds(-1),
        ..rule
    };
    assert_eq!(fault(negative), format!("{at}.request_timeout"));
}

#[test]
fn a_service_must_be_the_one_of_its_name_and_not_too_large() {
    assert_eq!(
        service_of(samples::service("other", &[]))
            .unwrap_err()
            .field,
        "name"
    );
    let huge = mesh::Service {
        buckets: 1_000_000,
        ..samples::service("web", &[])
    };
    assert_eq!(service_of(huge).unwrap_err().field, "buckets");
    let mut portless = samples::service("web", &[]);
    portless.ports[0].port = 70_000;
    assert_eq!(service_of(portless).unwrap_err().field, "ports[0].port");
}

fn endpoint_of(wire: mesh::Endpoint) -> Result<weft_proxy_config::Endpoint, Invalid> {
    endpoints::endpoint(wire, &mut |_| EndpointState::new())
}

#[test]
fn endpoints_are_read_and_mtls_needs_to_know_with_whom() {
    let endpoint = endpoint_of(samples::endpoint("10.0.0.1")).unwrap();
    assert_eq!(
        endpoint.identity.unwrap().as_str(),
        "spiffe://cluster.local/ns/shop/sa/web"
    );
    let mut anonymous = samples::endpoint("10.0.0.1");
    anonymous.service_account.clear();
    assert_eq!(
        endpoint_of(anonymous.clone()).unwrap_err().field,
        "ports[0].mtls"
    );
    anonymous.ports[0].mtls = false;
    anonymous.weight = 0;
    let plain = endpoint_of(anonymous).unwrap();
    assert_eq!((plain.identity, plain.weight), (None, 1));
    let mut bad = samples::endpoint("10.0.0.1");
    bad.trust_domain = "UPPER".into();
    assert_eq!(endpoint_of(bad).unwrap_err().field, "trust_domain");
    assert_eq!(
        endpoint_of(samples::endpoint("nowhere")).unwrap_err().field,
        "address"
    );
}

fn policy(action: mesh::Action, kinds: Vec<Option<Kind>>) -> Result<Policy, Invalid> {
    let rules = kinds.into_iter().map(|kind| mesh::Rule {
        name: "r".into(),
        condition: Some(mesh::Condition { kind }),
    });
    let wire = mesh::Authorization {
        action: action.into(),
        rules: rules.collect(),
    };
    authorization("shop/p", "0123456789", wire)
}

fn lets_in(policy: Policy) -> bool {
    let binding = PolicyBinding {
        policy: policy.into(),
        ports: Default::default(),
    };
    let inbound = Inbound::new("shop", "web", MtlsMode::Strict).guarded("v", vec![], vec![binding]);
    let peer = Peer {
        identity: None,
        address: [10, 0, 0, 1].into(),
        port: 80,
    };
    inbound.authorize_connection(&peer).is_allowed()
}

#[test]
fn an_empty_oneof_never_widens_access() {
    let unreadable = || {
        let empty = mesh::StringMatch { kind: None };
        let inside = mesh::Condition { kind: None };
        vec![
            None,
            Some(Kind::Principal(empty.clone())),
            Some(Kind::Path(empty.clone())),
            Some(Kind::Not(Box::new(inside.clone()))),
            Some(Kind::All(mesh::All {
                conditions: vec![inside.clone()],
            })),
            Some(Kind::Any(mesh::Any {
                conditions: vec![inside],
            })),
            Some(Kind::Header(mesh::HeaderCondition {
                name: "a".into(),
                value: Some(empty),
            })),
        ]
    };
    for kind in unreadable() {
        let text = format!("{kind:?}");
        let allow = policy(mesh::Action::Allow, vec![kind.clone()]).unwrap();
        assert!(!lets_in(allow), "ALLOW {text}");
        let deny = policy(mesh::Action::Deny, vec![kind]).unwrap();
        assert!(!lets_in(deny), "DENY {text}");
    }
    let everybody = Some(Kind::All(mesh::All::default()));
    assert!(lets_in(
        policy(mesh::Action::Allow, vec![None, everybody]).unwrap()
    ));
    let missing = mesh::Authorization {
        action: mesh::Action::Allow.into(),
        rules: vec![mesh::Rule::default()],
    };
    assert!(!lets_in(authorization("shop/p", "v", missing).unwrap()));
}

#[test]
fn an_action_that_is_not_known_refuses_the_policy() {
    assert_eq!(
        policy(mesh::Action::Unspecified, vec![]).unwrap_err().field,
        "action"
    );
    let deny = policy(mesh::Action::Deny, vec![]).unwrap();
    assert_eq!((deny.action(), &**deny.name()), (Action::Deny, "shop/p"));
}

#[test]
fn broken_conditions_name_their_place() {
    let at = |kind| {
        policy(mesh::Action::Allow, vec![None, Some(kind)])
            .unwrap_err()
            .field
    };
    assert_eq!(
        at(Kind::SourceIp("10.0.0.0/99".into())),
        "rules[1].condition.source_ip"
    );
    assert_eq!(at(Kind::Port(0)), "rules[1].condition.port");
    let header = mesh::HeaderCondition {
        name: "a b".into(),
        value: None,
    };
    let nested = Kind::All(mesh::All {
        conditions: vec![mesh::Condition {
            kind: Some(Kind::Not(Box::new(mesh::Condition {
                kind: Some(Kind::Header(header)),
            }))),
        }],
    });
    assert_eq!(at(nested), "rules[1].condition.all[0].not.name");
    assert_eq!(Condition::Unreadable, Condition::Unreadable);
}

#[test]
fn an_inbound_must_say_how_strict_it_is() {
    let port = |mtls: mesh::MtlsMode| mesh::InboundPort {
        port: 80,
        protocol: mesh::Protocol::Grpc.into(),
        routed: false,
        mtls: mtls.into(),
    };
    let mut wire = mesh::Inbound {
        namespace: "shop".into(),
        pod: "web-1".into(),
        mtls: mesh::MtlsMode::Strict.into(),
        ports: vec![
            port(mesh::MtlsMode::Unspecified),
            port(mesh::MtlsMode::Permissive),
        ],
        terminating: true,
        ..Default::default()
    };
    let spec = inbound(wire.clone()).unwrap();
    let modes: Vec<_> = spec.ports.iter().map(|port| port.mtls).collect();
    assert_eq!(modes, [MtlsMode::Strict, MtlsMode::Permissive]);
    assert!(spec.plain.terminating && !spec.plain.drained);
    wire.mtls = 0;
    assert_eq!(inbound(wire.clone()).unwrap_err().field, "mtls");
    wire.mtls = 42;
    assert_eq!(inbound(wire).unwrap_err().field, "mtls");
}

#[test]
fn the_mesh_must_say_what_happens_outside_of_it() {
    let wire = samples::mesh_config();
    assert_eq!(
        mesh_config(wire.clone()).unwrap().outbound,
        OutboundPolicy::AllowAny
    );
    let unknown = mesh::MeshConfig {
        outbound_policy: 0,
        ..wire.clone()
    };
    assert_eq!(mesh_config(unknown).unwrap_err().field, "outbound_policy");
    let bad = mesh::MeshConfig {
        address_ranges: vec!["10.0.0.0/8".into(), "x".into()],
        ..wire
    };
    assert_eq!(mesh_config(bad).unwrap_err().field, "address_ranges[1]");
}

#[test]
fn trust_is_not_taken_from_garbage() {
    let wire = |roots| mesh::TrustBundle {
        trust_domains: vec![mesh::TrustDomain {
            name: "cluster.local".into(),
            roots,
        }],
    };
    assert_eq!(
        trust_bundle(wire(vec![])).unwrap_err().field,
        "trust_domains"
    );
    assert_eq!(
        trust_bundle(wire(vec![vec![1, 2]])).unwrap_err().field,
        "trust_domains"
    );
}

#[test]
fn an_address_of_an_unknown_kind_is_refused() {
    let fault = address(mesh::Address { target: None }).unwrap_err();
    assert_eq!(fault.field, "target");
}
