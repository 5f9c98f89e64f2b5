//! The traffic policy within a `Service`.

use weft_compile::resource::{RetryOn, RetryPolicy, TrafficPolicy};
use weft_model::Balancing;
use weft_proto::mesh;

use super::duration;

pub(super) fn traffic_policy(policy: &TrafficPolicy) -> mesh::TrafficPolicy {
    let balancing = match policy.balancing {
        Balancing::LeastLatency => mesh::Balancing::LeastLatency,
        Balancing::RoundRobin => mesh::Balancing::RoundRobin,
    };
    let limits = &policy.limits;
    mesh::TrafficPolicy {
        balancing: balancing.into(),
        limits: Some(mesh::ConnectionLimits {
            max_connections: limits.max_connections.unwrap_or(0),
            max_pending: limits.max_pending.unwrap_or(0),
            max_requests: limits.max_requests.unwrap_or(0),
            connect_timeout: limits.connect_timeout.map(duration),
            idle_timeout: limits.idle_timeout.map(duration),
        }),
        outlier_detection: policy.outlier_detection.as_ref().map(|outlier| {
            mesh::OutlierDetection {
                consecutive_failures: outlier.consecutive_failures,
                base_ejection: Some(duration(outlier.base_ejection)),
                max_ejection_percent: outlier.max_ejection_percent,
            }
        }),
        retries: policy.retries.as_ref().map(retries),
        request_timeout: policy.request_timeout.map(duration),
    }
}

fn retries(policy: &RetryPolicy) -> mesh::RetryPolicy {
    mesh::RetryPolicy {
        attempts: policy.attempts,
        on: policy.on.iter().map(|on| retry_on(*on).into()).collect(),
        per_try_timeout: policy.per_try_timeout.map(duration),
        backoff_base: Some(duration(policy.backoff_base)),
        backoff_max: Some(duration(policy.backoff_max)),
        budget_percent: policy.budget_percent,
        budget_min_per_second: policy.budget_min_per_second,
        non_idempotent: policy.non_idempotent,
        replay_limit: policy.replay_limit,
    }
}

fn retry_on(on: RetryOn) -> mesh::RetryOn {
    match on {
        RetryOn::ConnectFailure => mesh::RetryOn::ConnectFailure,
        RetryOn::Reset => mesh::RetryOn::Reset,
        RetryOn::ServerError => mesh::RetryOn::ServerError,
        RetryOn::GatewayError => mesh::RetryOn::GatewayError,
        RetryOn::AttemptTimeout => mesh::RetryOn::AttemptTimeout,
        RetryOn::GrpcCancelled => mesh::RetryOn::GrpcCancelled,
        RetryOn::GrpcDeadlineExceeded => mesh::RetryOn::GrpcDeadlineExceeded,
        RetryOn::GrpcInternal => mesh::RetryOn::GrpcInternal,
        RetryOn::GrpcResourceExhausted => mesh::RetryOn::GrpcResourceExhausted,
        RetryOn::GrpcUnavailable => mesh::RetryOn::GrpcUnavailable,
    }
}
