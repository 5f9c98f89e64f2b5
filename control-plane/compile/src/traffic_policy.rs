//! TrafficPolicies: the one in force at a service, with the documented defaults filled in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use weft_model::{
    FieldPath, Object, OutlierDetection as Outlier, Reason, RetryOn as Wanted,
    RetryPolicy as Retries, Spec, TrafficPolicy as Policy,
};

use crate::findings::Findings;
use crate::index::{Handle, Index};
use crate::resource::{ConnectionLimits, OutlierDetection, RetryOn, RetryPolicy, TrafficPolicy};
use crate::snapshot::Name;
use crate::targets::is_service;

/// The policy in force at a service: the oldest. Younger ones are reported.
pub(crate) fn in_force(
    index: &Index,
    service: &Name,
    findings: &mut Findings,
) -> Option<Arc<TrafficPolicy>> {
    let mut claims: Vec<_> = index
        .referring(&Handle::TrafficPolicy(service.clone()))
        .filter(|object| object.problems.is_empty())
        .filter_map(|object| Some((object, policy_of(object)?)))
        .filter_map(|(object, policy)| {
            let target = policy.targets.iter().position(|target| {
                is_service(target) && target.section_name.is_none() && target.name == service.1
            })?;
            Some((object, policy, target))
        })
        .collect();
    claims.sort_by(|(a, ..), (b, ..)| a.seniority().cmp(&b.seniority()));
    let (winner, losers) = claims.split_first()?;
    for (object, _, target) in losers {
        findings.error(
            object,
            FieldPath::from("spec.targetRefs").index(*target),
            Reason::Conflicted,
            format!(
                "TrafficPolicy {} is older and in force for Service {}/{}; change or remove one of the two",
                winner.0.key.name, service.0, service.1
            ),
        );
    }
    Some(Arc::new(compile(winner.1)))
}

fn policy_of(object: &Object) -> Option<&Policy> {
    match &object.spec {
        Spec::TrafficPolicy(policy) => Some(policy),
        _ => None,
    }
}

/// What is to be said about one policy: its targets, and what of it is not done.
pub(crate) fn check(index: &Index, object: &Object, policy: &Policy) -> Findings {
    let mut findings = Findings::default();
    for (nth, target) in policy.targets.iter().enumerate() {
        let at = FieldPath::from("spec.targetRefs").index(nth);
        let name = (object.key.namespace.clone(), target.name.clone());
        if !is_service(target) {
            findings.error(
                object,
                at.field("kind"),
                Reason::InvalidKind,
                format!(
                    "{} {:?} cannot be a target; use a Service",
                    target.kind, target.group
                ),
            );
        } else if target.section_name.is_some() {
            findings.error(
                object,
                at.field("sectionName"),
                Reason::UnsupportedValue,
                "a TrafficPolicy holds for a whole Service; remove sectionName (until then this target has no policy)",
            );
        } else if index.service(&name).is_none() {
            findings.error(
                object,
                at.field("name"),
                Reason::TargetNotFound,
                format!("there is no Service {}/{}", name.0, name.1),
            );
        }
    }
    unsupported(object, policy, &mut findings);
    findings
}

/// Fields that no proxy does yet. The rest of the policy is in force.
fn unsupported(object: &Object, policy: &Policy, findings: &mut Findings) {
    let mut refuse = |field: FieldPath, what: &str| {
        let message = format!("{what} is not supported and has no effect; remove it");
        findings.error(object, field, Reason::UnsupportedValue, message);
    };
    if policy
        .timeouts
        .is_some_and(|timeouts| timeouts.idle.is_some())
    {
        refuse("spec.timeouts.idle".into(), "an idle timeout of requests");
    }
    let outlier = policy.outlier_detection.as_ref();
    if outlier.is_some_and(|outlier| outlier.max_ejection_time.is_some()) {
        refuse(
            "spec.outlierDetection.maxEjectionTime".into(),
            "a bound of the ejection time",
        );
    }
    let Some(retries) = &policy.retries else {
        return;
    };
    let at = FieldPath::from("spec.retries");
    for (nth, code) in retries.codes.iter().enumerate() {
        let what = format!("a retry on HTTP status {code} alone");
        refuse(at.field("codes").index(nth), &what);
    }
    for (nth, code) in retries.grpc_codes.iter().enumerate() {
        if on_grpc(*code).is_none() {
            let what = format!("a retry on gRPC status {code}");
            refuse(at.field("grpcCodes").index(nth), &what);
        }
    }
}

fn compile(policy: &Policy) -> TrafficPolicy {
    let limits = policy.connections.clone().unwrap_or_default();
    TrafficPolicy {
        balancing: policy.balancing.unwrap_or_default(),
        limits: ConnectionLimits {
            max_connections: limits.max_connections,
            max_pending: limits.max_pending_requests,
            max_requests: limits.max_requests,
            connect_timeout: limits.connect_timeout,
            idle_timeout: limits.idle_timeout,
        },
        outlier_detection: policy.outlier_detection.as_ref().map(outlier_detection),
        retries: policy.retries.as_ref().map(retries),
        request_timeout: policy.timeouts.and_then(|timeouts| timeouts.request),
    }
}

fn outlier_detection(outlier: &Outlier) -> OutlierDetection {
    OutlierDetection {
        consecutive_failures: outlier.consecutive_failures.unwrap_or(5),
        base_ejection: outlier
            .base_ejection_time
            .unwrap_or(Duration::from_secs(30)),
        max_ejection_percent: outlier.max_ejection_percent.unwrap_or(50),
    }
}

fn retries(retries: &Retries) -> RetryPolicy {
    let backoff = retries.backoff.unwrap_or_default();
    let budget = retries.budget.unwrap_or_default();
    RetryPolicy {
        attempts: retries.attempts.unwrap_or(1),
        on: reasons(retries),
        per_try_timeout: retries.per_try_timeout,
        backoff_base: backoff.base.unwrap_or(Duration::from_millis(25)),
        backoff_max: backoff.max.unwrap_or(Duration::from_secs(1)),
        budget_percent: budget.percent.unwrap_or(20),
        budget_min_per_second: budget.min_per_second.unwrap_or(10),
        non_idempotent: retries.retry_non_idempotent,
        replay_limit: retries.buffer_limit.unwrap_or(64 * 1024),
    }
}

const DEFAULT_REASONS: [Wanted; 3] = [Wanted::ConnectFailure, Wanted::Reset, Wanted::GatewayError];

fn reasons(retries: &Retries) -> Vec<RetryOn> {
    let wanted = match &retries.retry_on {
        Some(wanted) => wanted.as_slice(),
        None if retries.codes.is_empty() && retries.grpc_codes.is_empty() => &DEFAULT_REASONS,
        None => &[],
    };
    let mut on = BTreeSet::new();
    for reason in wanted {
        match reason {
            Wanted::ConnectFailure => on.extend([RetryOn::ConnectFailure]),
            Wanted::Reset => on.extend([RetryOn::Reset]),
            Wanted::GatewayError => on.extend([RetryOn::GatewayError, RetryOn::GrpcUnavailable]),
            Wanted::ServerError => on.extend([RetryOn::ServerError]),
            Wanted::Timeout => on.extend([RetryOn::AttemptTimeout]),
        }
    }
    on.extend(retries.grpc_codes.iter().filter_map(|code| on_grpc(*code)));
    on.into_iter().collect()
}

/// gRPC, "Status codes and their use".
fn on_grpc(code: u8) -> Option<RetryOn> {
    match code {
        1 => Some(RetryOn::GrpcCancelled),
        4 => Some(RetryOn::GrpcDeadlineExceeded),
        8 => Some(RetryOn::GrpcResourceExhausted),
        13 => Some(RetryOn::GrpcInternal),
        14 => Some(RetryOn::GrpcUnavailable),
        _ => None,
    }
}
