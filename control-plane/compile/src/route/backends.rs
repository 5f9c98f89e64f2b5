//! Where a rule's requests go. A reference that leads nowhere keeps its share (Gateway API,
//! `HTTPBackendRef`: 500).

use std::sync::Arc;

use weft_model::{Backend as BackendRef, FieldPath, Filter, Reason, Rule, ServiceType};

use super::{Report, filters};
use crate::gateway::is_granted;
use crate::index::{Index, backend_service};
use crate::protocol::tcp_ports;
use crate::resource::{Backend, WeightedBackend};

/// Gateway API, `BackendRef.weight`.
const MAX_WEIGHT: i64 = 1_000_000;

/// The rule's backends. `None`: a fault that costs the rule.
pub(super) fn weighted<M>(
    index: &Index,
    rule: &Rule<M>,
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<Vec<WeightedBackend>> {
    let at_backends = at.field("backendRefs");
    if rule.filters.iter().any(filters::is_redirect) {
        return if rule.backends.is_empty() {
            Some(Vec::new())
        } else {
            report.refuse(
                at_backends,
                Reason::IncompatibleFilters,
                "a rule with a RequestRedirect answers itself; remove its backendRefs",
            )
        };
    }
    let compiled: Vec<_> = rule
        .backends
        .iter()
        .enumerate()
        .map(|(nth, backend)| {
            let at = at_backends.index(nth);
            share(index, backend, &rule.filters, &at, report)
        })
        .collect();
    let backends: Vec<WeightedBackend> = compiled.into_iter().collect::<Option<_>>()?;
    let sum = backends
        .iter()
        .try_fold(0u32, |sum, backend| sum.checked_add(backend.weight));
    match sum {
        None => report.refuse(
            at_backends,
            Reason::InvalidValue,
            format!("the weights add up to more than {}", u32::MAX),
        ),
        Some(0) => Some(vec![nowhere(&backends, at_backends, report)]),
        Some(_) => Some(backends),
    }
}

/// What a rule does that sends no request anywhere: it answers 500.
fn nowhere(
    backends: &[WeightedBackend],
    at: FieldPath,
    report: &mut Report<'_>,
) -> WeightedBackend {
    let (reason, advice) = if backends.is_empty() {
        (
            "the rule has no backendRefs",
            "name the Service itself to send requests on to it",
        )
    } else {
        ("all weights are 0", "give a backend a weight")
    };
    let message = format!("{reason}, so requests that match are answered 500; {advice}");
    report.warning(at, Reason::InvalidValue, message);
    WeightedBackend {
        weight: 1,
        target: Err(reason.into()),
        filters: Vec::new(),
    }
}

fn share(
    index: &Index,
    backend: &BackendRef,
    of_rule: &[Filter],
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<WeightedBackend> {
    let weight = u32::try_from(backend.weight)
        .ok()
        .filter(|_| backend.weight <= MAX_WEIGHT);
    if weight.is_none() {
        report.error(
            at.field("weight"),
            Reason::InvalidValue,
            format!(
                "{} is not a weight; it must be from 0 to {MAX_WEIGHT}",
                backend.weight
            ),
        );
    }
    let filters = filters::of_backend(&backend.filters, of_rule, &at.field("filters"), report);
    let target = target(index, backend, at, report);
    Some(WeightedBackend {
        weight: weight?,
        target,
        filters: filters?,
    })
}

/// Says where a Gateway may not send requests: a Service of another namespace takes a grant there. Services as
/// parents need none.
pub(super) fn granted<M>(index: &Index, rule: &Rule<M>, at: &FieldPath, report: &mut Report<'_>) {
    let route = &report.object.key.clone();
    for (nth, backend) in rule.backends.iter().enumerate() {
        let Some(service) = backend_service(route, backend) else {
            continue;
        };
        if service.0 == route.namespace || is_granted(index, route, &service) {
            continue;
        }
        report.error(
            at.field("backendRefs").index(nth),
            Reason::RefNotPermitted,
            format!(
                "a Gateway may send requests to Service {}/{} only where a ReferenceGrant in namespace {} permits it to {}s of namespace {}, and none does",
                service.0, service.1, service.0, route.kind, route.namespace
            ),
        );
    }
}

fn target(
    index: &Index,
    backend: &BackendRef,
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Result<Backend, Arc<str>> {
    let route = &report.object.key.clone();
    let mut nowhere = |field: &str, reason, message: String| {
        report.error(
            at.field(field),
            reason,
            format!("{message}; its share of the requests is answered 500"),
        );
        Err(message.into())
    };
    let Some(name) = backend_service(route, backend) else {
        return nowhere(
            "kind",
            Reason::InvalidKind,
            format!(
                "{} {:?} is no kind of backend; use a Service",
                backend.kind, backend.group
            ),
        );
    };
    let Some((_, service)) = index.service(&name) else {
        return nowhere(
            "name",
            Reason::BackendNotFound,
            format!("there is no Service {}/{}", name.0, name.1),
        );
    };
    if matches!(service.kind, ServiceType::ExternalName(_)) {
        return nowhere(
            "name",
            Reason::UnsupportedValue,
            format!(
                "Service {}/{} is an ExternalName, which cannot be a backend",
                name.0, name.1
            ),
        );
    }
    let Some(port) = backend.port else {
        return nowhere(
            "port",
            Reason::InvalidValue,
            format!("no port is given for Service {}/{}", name.0, name.1),
        );
    };
    if !tcp_ports(&service.ports).any(|known| known.port == port) {
        return nowhere(
            "port",
            Reason::BackendNotFound,
            format!("Service {}/{} has no TCP port {port}", name.0, name.1),
        );
    }
    Ok(Backend {
        namespace: name.0,
        name: name.1,
        port,
    })
}
