//! What is in force where a TrafficPolicy says nothing is what its documentation says, and what a proxy does without one.

use std::sync::Arc;

use serde_json::Value;
use weft_api::Kind;
use weft_api::schema::{resolve, schema};
use weft_proxy_config::{OutlierDetection, Resolution, RetryOn, RetryPolicy, TrafficPolicy};

use crate::wire::Case;

/// The policy of the case's Service `cart`, whose sections are empty.
fn of_empty_sections() -> Arc<TrafficPolicy> {
    let cart = "10.96.0.2:80".parse().unwrap();
    let store = Case::load("traffic-policy").proxy("shop/client", &[cart]);
    match store.resolved(cart) {
        Some(Resolution::Service { service, .. }) => service.load().policy.clone(),
        other => panic!("{other:?}"),
    }
}

/// `Default X` of a field's description, without the full stop.
fn documented(root: &Value, path: &str) -> String {
    let mut place = &root["properties"]["spec"];
    for step in path.split('.') {
        place = &resolve(root, place).unwrap()["properties"][step];
    }
    let text = place["description"].as_str().unwrap().replace('\n', " ");
    let (_, default) = text
        .split_once("Default ")
        .unwrap_or_else(|| panic!("{path} has no documented default: {text}"));
    default.split(['.', ' ']).next().unwrap().to_owned()
}

#[test]
fn the_documented_defaults_are_those_in_force() {
    let policy = of_empty_sections();
    let limits = &policy.limits;
    let outlier = policy.outlier.as_ref().unwrap();
    let retries = &policy.retries;
    let root = schema(Kind::TrafficPolicy);
    let seconds = |time: std::time::Duration| format!("{time:?}");
    for (path, in_force) in [
        (
            "connections.maxConnections",
            limits.max_connections.to_string(),
        ),
        (
            "connections.maxPendingRequests",
            limits.max_pending.to_string(),
        ),
        ("connections.maxRequests", limits.max_requests.to_string()),
        (
            "connections.connectTimeout",
            seconds(limits.connect_timeout),
        ),
        ("connections.idleTimeout", seconds(limits.idle_timeout)),
        (
            "outlierDetection.consecutiveFailures",
            outlier.consecutive_failures.to_string(),
        ),
        (
            "outlierDetection.baseEjectionTime",
            seconds(outlier.base_ejection),
        ),
        (
            "outlierDetection.maxEjectionPercent",
            outlier.max_ejection_percent.to_string(),
        ),
        ("retries.attempts", retries.attempts.to_string()),
        ("retries.backoff.base", seconds(retries.backoff_base)),
        ("retries.backoff.max", seconds(retries.backoff_max)),
        ("retries.budget.percent", retries.budget_percent.to_string()),
        (
            "retries.budget.minPerSecond",
            retries.budget_min_per_second.to_string(),
        ),
        (
            "retries.bufferLimit",
            format!("{}Ki", retries.replay_limit / 1024),
        ),
    ] {
        assert_eq!(documented(&root, path), in_force, "{path}");
    }
    let reasons = [
        RetryOn::ConnectFailure,
        RetryOn::Reset,
        RetryOn::GatewayError,
        RetryOn::GrpcUnavailable,
    ];
    assert_eq!(retries.on, reasons);
}

/// An empty section turns something on; how it is done is the same with and without it.
#[test]
fn a_proxy_without_a_policy_goes_by_the_same_values() {
    let policy = of_empty_sections();
    let without = TrafficPolicy::default();
    assert_eq!(without.retries.attempts, 0);
    let turned_off = RetryPolicy {
        attempts: 0,
        on: Vec::new(),
        ..policy.retries.clone()
    };
    assert_eq!(turned_off, without.retries);
    assert_eq!(policy.limits, without.limits);
    assert_eq!(policy.balancing, without.balancing);
    assert_eq!(policy.outlier, Some(OutlierDetection::default()));
}
