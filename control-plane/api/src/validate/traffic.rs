//! `TrafficPolicy`.

use super::{Faults, spec_path};
use crate::duration::Duration;
use crate::field_path::FieldPath;
use crate::traffic_policy::{Connections, OutlierDetection, Retries};
use crate::{ByteSize, TrafficPolicy};

/// The most of a body that may be kept to be sent again.
const MAX_BUFFER_LIMIT: u64 = 16 << 20;

/// The rules of the CRD.
pub(super) fn traffic_policy(policy: &TrafficPolicy, faults: &mut Faults) {
    let (at, spec) = (spec_path(), &policy.spec);
    super::policy::target_refs(&spec.target_refs, &at.key("targetRefs"), faults);
    if let Some(limits) = &spec.connections {
        connections(limits, &at.key("connections"), faults);
    }
    if let Some(detection) = &spec.outlier_detection {
        outlier_detection(detection, &at.key("outlierDetection"), faults);
    }
    if let Some(entry) = &spec.retries {
        retries(entry, &at.key("retries"), faults);
    }
}

fn connections(limits: &Connections, at: &FieldPath, faults: &mut Faults) {
    for (field, limit) in [
        ("maxConnections", limits.max_connections),
        ("maxPendingRequests", limits.max_pending_requests),
        ("maxRequests", limits.max_requests),
    ] {
        faults.range(at.key(field), limit, 1, u32::MAX);
    }
    positive(limits.connect_timeout, at.key("connectTimeout"), faults);
    positive(limits.idle_timeout, at.key("idleTimeout"), faults);
}

fn outlier_detection(detection: &OutlierDetection, at: &FieldPath, faults: &mut Faults) {
    let failures = detection.consecutive_failures;
    faults.range(at.key("consecutiveFailures"), failures, 1, u32::MAX);
    faults.range(
        at.key("maxEjectionPercent"),
        detection.max_ejection_percent,
        0,
        100,
    );
    positive(
        detection.base_ejection_time,
        at.key("baseEjectionTime"),
        faults,
    );
    positive(
        detection.max_ejection_time,
        at.key("maxEjectionTime"),
        faults,
    );
    ordered(
        ("baseEjectionTime", detection.base_ejection_time),
        ("maxEjectionTime", detection.max_ejection_time),
        at,
        faults,
    );
}

fn retries(retries: &Retries, at: &FieldPath, faults: &mut Faults) {
    faults.range(at.key("attempts"), retries.attempts, 0, 10);
    faults.list(at.key("retryOn"), retries.retry_on.as_ref(), 16);
    faults.list(at.key("codes"), retries.codes.as_ref(), 16);
    faults.list(at.key("grpcCodes"), retries.grpc_codes.as_ref(), 16);
    for (index, code) in retries.codes.iter().flatten().enumerate() {
        faults.range(at.key("codes").index(index), Some(*code), 400, 599);
    }
    positive(retries.per_try_timeout, at.key("perTryTimeout"), faults);
    if let Some(backoff) = retries.backoff {
        let at = at.key("backoff");
        positive(backoff.base, at.key("base"), faults);
        positive(backoff.max, at.key("max"), faults);
        ordered(("base", backoff.base), ("max", backoff.max), &at, faults);
    }
    if let Some(budget) = retries.budget {
        let at = at.key("budget");
        faults.range(at.key("percent"), budget.percent, 0, 100);
        faults.range(at.key("minPerSecond"), budget.min_per_second, 0, 1000);
    }
    if let Some(ByteSize(bytes)) = retries.buffer_limit
        && bytes > MAX_BUFFER_LIMIT
    {
        faults.invalid(
            at.key("bufferLimit"),
            format!("{bytes} bytes are more than 16Mi"),
        );
    }
}

fn positive(duration: Option<Duration>, at: FieldPath, faults: &mut Faults) {
    if duration.is_some_and(|duration| std::time::Duration::from(duration).is_zero()) {
        faults.invalid(at, "must be longer than 0s");
    }
}

fn ordered(
    (low_field, low): (&str, Option<Duration>),
    (high_field, high): (&str, Option<Duration>),
    at: &FieldPath,
    faults: &mut Faults,
) {
    if let (Some(low), Some(high)) = (low, high)
        && low > high
    {
        let message = format!("{high} is shorter than {low_field}, which is {low}");
        faults.invalid(at.key(high_field), message);
    }
}
