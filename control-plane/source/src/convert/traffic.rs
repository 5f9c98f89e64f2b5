//! `TrafficPolicy`.

use weft_api::traffic_policy as api;
use weft_model::{
    Backoff, Balancing, Connections, OutlierDetection, RetryBudget, RetryOn, RetryPolicy,
    TrafficPolicy, TrafficTimeouts,
};

use super::target_refs;

pub(super) fn traffic_policy(policy: &weft_api::TrafficPolicy) -> TrafficPolicy {
    let spec = &policy.spec;
    TrafficPolicy {
        targets: target_refs(&spec.target_refs),
        balancing: spec
            .load_balancing
            .map(|balancing| match balancing.algorithm {
                api::LoadBalancingAlgorithm::LeastLatency => Balancing::LeastLatency,
                api::LoadBalancingAlgorithm::RoundRobin => Balancing::RoundRobin,
            }),
        connections: spec.connections.map(connections),
        outlier_detection: spec.outlier_detection.map(outlier_detection),
        retries: spec.retries.as_ref().map(retries),
        timeouts: spec.timeouts.map(|timeouts| TrafficTimeouts {
            request: timeouts.request.map(Into::into),
            idle: timeouts.idle.map(Into::into),
        }),
    }
}

fn connections(limits: api::Connections) -> Connections {
    Connections {
        max_connections: limits.max_connections,
        max_pending_requests: limits.max_pending_requests,
        max_requests: limits.max_requests,
        connect_timeout: limits.connect_timeout.map(Into::into),
        idle_timeout: limits.idle_timeout.map(Into::into),
    }
}

fn outlier_detection(detection: api::OutlierDetection) -> OutlierDetection {
    OutlierDetection {
        consecutive_failures: detection.consecutive_failures,
        base_ejection_time: detection.base_ejection_time.map(Into::into),
        max_ejection_time: detection.max_ejection_time.map(Into::into),
        max_ejection_percent: detection.max_ejection_percent,
    }
}

fn retries(retries: &api::Retries) -> RetryPolicy {
    let reason = |reason: &api::RetryOn| match reason {
        api::RetryOn::ConnectFailure => RetryOn::ConnectFailure,
        api::RetryOn::Reset => RetryOn::Reset,
        api::RetryOn::GatewayError => RetryOn::GatewayError,
        api::RetryOn::ServerError => RetryOn::ServerError,
        api::RetryOn::Timeout => RetryOn::Timeout,
    };
    let reasons = retries.retry_on.as_ref();
    let grpc_codes = retries.grpc_codes.iter().flatten();
    RetryPolicy {
        attempts: retries.attempts,
        retry_on: reasons.map(|reasons| reasons.iter().map(reason).collect()),
        codes: retries.codes.clone().unwrap_or_default(),
        grpc_codes: grpc_codes.map(|code| *code as u8).collect(),
        per_try_timeout: retries.per_try_timeout.map(Into::into),
        backoff: retries.backoff.map(|backoff| Backoff {
            base: backoff.base.map(Into::into),
            max: backoff.max.map(Into::into),
        }),
        budget: retries.budget.map(|budget| RetryBudget {
            percent: budget.percent,
            min_per_second: budget.min_per_second,
        }),
        retry_non_idempotent: retries.retry_non_idempotent.unwrap_or(false),
        buffer_limit: retries.buffer_limit.map(|limit| limit.0),
    }
}
