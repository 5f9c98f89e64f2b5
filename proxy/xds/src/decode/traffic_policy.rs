//! The traffic policy within a `Service`. Absent values and zero limits mean the proxy's defaults; what
//! this proxy does not know of balancing and retry conditions is advisory and left out.

use std::time::Duration;

use weft_proto::mesh;
use weft_proxy_config::{
    Balancing, ConnectionLimits, Invalid, OutlierDetection, RetryOn, RetryPolicy, TrafficPolicy,
};

use super::duration;

pub(super) fn traffic_policy(wire: mesh::TrafficPolicy) -> Result<TrafficPolicy, Invalid> {
    let balancing = match mesh::Balancing::try_from(wire.balancing) {
        Ok(mesh::Balancing::RoundRobin) => Balancing::RoundRobin,
        _ => Balancing::LeastLatency,
    };
    Ok(TrafficPolicy {
        balancing,
        limits: limits(wire.limits.unwrap_or_default()).map_err(|f| f.within("limits"))?,
        outlier: wire
            .outlier_detection
            .map(outlier)
            .transpose()
            .map_err(|fault| fault.within("outlier_detection"))?,
        retries: wire
            .retries
            .map(retries)
            .transpose()
            .map_err(|fault| fault.within("retries"))?
            .unwrap_or_default(),
        request_timeout: duration("request_timeout", wire.request_timeout)?
            .filter(|timeout| !timeout.is_zero()),
    })
}

/// A duration of which zero makes no sense.
fn positive(
    field: &str,
    wire: Option<prost_types::Duration>,
    default: Duration,
) -> Result<Duration, Invalid> {
    let given = duration(field, wire)?.filter(|given| !given.is_zero());
    Ok(given.unwrap_or(default))
}

fn limits(wire: mesh::ConnectionLimits) -> Result<ConnectionLimits, Invalid> {
    let default = ConnectionLimits::default();
    let or = |given: u32, default: u32| if given == 0 { default } else { given };
    Ok(ConnectionLimits {
        max_connections: or(wire.max_connections, default.max_connections),
        max_pending: or(wire.max_pending, default.max_pending),
        max_requests: or(wire.max_requests, default.max_requests),
        connect_timeout: positive(
            "connect_timeout",
            wire.connect_timeout,
            default.connect_timeout,
        )?,
        idle_timeout: positive("idle_timeout", wire.idle_timeout, default.idle_timeout)?,
    })
}

fn outlier(wire: mesh::OutlierDetection) -> Result<OutlierDetection, Invalid> {
    let default = OutlierDetection::default();
    Ok(OutlierDetection {
        consecutive_failures: match wire.consecutive_failures {
            0 => default.consecutive_failures,
            given => given,
        },
        base_ejection: positive("base_ejection", wire.base_ejection, default.base_ejection)?,
        max_ejection_percent: u8::try_from(wire.max_ejection_percent.min(100))
            .unwrap_or(default.max_ejection_percent),
    })
}

fn retries(wire: mesh::RetryPolicy) -> Result<RetryPolicy, Invalid> {
    let default = RetryPolicy::default();
    Ok(RetryPolicy {
        attempts: u8::try_from(wire.attempts.min(255)).unwrap_or(u8::MAX),
        on: wire.on.into_iter().filter_map(retry_on).collect(),
        per_try_timeout: duration("per_try_timeout", wire.per_try_timeout)?
            .filter(|timeout| !timeout.is_zero()),
        backoff_base: positive("backoff_base", wire.backoff_base, default.backoff_base)?,
        backoff_max: positive("backoff_max", wire.backoff_max, default.backoff_max)?,
        budget_percent: wire.budget_percent,
        budget_min_per_second: wire.budget_min_per_second,
        non_idempotent: wire.non_idempotent,
        replay_limit: wire.replay_limit,
    })
}

fn retry_on(wire: i32) -> Option<RetryOn> {
    use mesh::RetryOn as Wire;
    Some(match Wire::try_from(wire).ok()? {
        Wire::Unspecified => return None,
        Wire::ConnectFailure => RetryOn::ConnectFailure,
        Wire::Reset => RetryOn::Reset,
        Wire::ServerError => RetryOn::ServerError,
        Wire::GatewayError => RetryOn::GatewayError,
        Wire::AttemptTimeout => RetryOn::AttemptTimeout,
        Wire::GrpcCancelled => RetryOn::GrpcCancelled,
        Wire::GrpcDeadlineExceeded => RetryOn::GrpcDeadlineExceeded,
        Wire::GrpcInternal => RetryOn::GrpcInternal,
        Wire::GrpcResourceExhausted => RetryOn::GrpcResourceExhausted,
        Wire::GrpcUnavailable => RetryOn::GrpcUnavailable,
    })
}
