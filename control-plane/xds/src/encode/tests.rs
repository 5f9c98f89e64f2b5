//! What compile says comes out on the wire.

use std::sync::Arc;
use std::time::Duration;

use weft_compile::resource::{
    Action, Address, Authorization, AuthorizationRule, Condition, Endpoint, EndpointPort, Inbound,
    PolicyRef, Protocol, StringMatch,
};
use weft_model::MtlsMode;
use weft_proto::mesh;

use super::*;
use crate::body::{Body, Facts};
use crate::kind::Kind;

fn endpoint(terminating: bool) -> Endpoint {
    Endpoint {
        address: "fd00::1".parse().unwrap(),
        ports: vec![EndpointPort {
            service_port: 0,
            port: 8080,
            mtls: true,
            protocol: Protocol::Http,
        }],
        identity: Some("spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()),
        namespace: "shop".into(),
        workload: "web".into(),
        zone: "a".into(),
        ready: true,
        terminating,
    }
}

fn policy() -> Arc<Authorization> {
    Arc::new(Authorization {
        action: Action::Deny,
        rules: vec![AuthorizationRule {
            name: "0".into(),
            condition: Condition::Not(Box::new(Condition::Any(vec![
                Condition::Path(StringMatch::Prefix("/a".into())),
                Condition::Namespace(StringMatch::Present),
            ]))),
        }],
    })
}

#[test]
fn an_inbound_names_the_version_that_the_policy_has_on_the_stream() {
    let message = inbound(
        &Inbound {
            namespace: "shop".into(),
            pod: "web-1".into(),
            service_account: "web".into(),
            workload: "web".into(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            mtls: MtlsMode::Strict,
            ports: Vec::new(),
            policies: vec![PolicyRef {
                namespace: "shop".into(),
                name: "p".into(),
                ports: vec![80],
                policy: policy(),
            }],
            terminating: false,
        },
        true,
    );
    let body = Body::new(
        Kind::Authorization,
        "shop/p",
        &authorization(&policy()),
        Facts::None,
    );
    assert_eq!(message.policies[0].name, "shop/p");
    assert_eq!(message.policies[0].version, body.version().to_string());
    assert_eq!(message.policies[0].ports, [80]);
    assert_eq!(message.mtls, i32::from(mesh::MtlsMode::Strict));
    assert!(message.drained);
}

#[test]
fn an_address_carries_the_port_that_was_asked_for() {
    let message = address(&Address::Workload(endpoint(false)));
    let Some(mesh::address::Target::Workload(workload)) = message.target else {
        panic!("a pod");
    };
    assert_eq!(workload.port, 8080);
    let endpoint = workload.endpoint.unwrap();
    assert_eq!(endpoint.address, "fd00::1");
    assert_eq!(endpoint.service_account, "web");
    assert_eq!(endpoint.trust_domain, "cluster.local");
}

#[test]
fn only_what_stays_is_live() {
    assert_eq!(live([&endpoint(true)]).len(), 0);
    assert_eq!(live([&endpoint(false)]).len(), 1);
}

#[test]
fn a_condition_keeps_its_shape() {
    use mesh::condition::Kind;
    let message = authorization(&policy());
    let Some(Kind::Not(not)) = &message.rules[0].condition.as_ref().unwrap().kind else {
        panic!("not");
    };
    let Some(Kind::Any(any)) = &not.kind else {
        panic!("any");
    };
    assert_eq!(any.conditions.len(), 2);
}

#[test]
fn durations_keep_their_nanoseconds_and_never_overflow() {
    let short = duration(Duration::new(1, 5));
    assert_eq!((short.seconds, short.nanos), (1, 5));
    assert_eq!(duration(Duration::MAX).seconds, 315_576_000_000);
}
