//! HTTPRoute and GRPCRoute: `status.parents`, an entry for each parent that is a Service, or a Gateway of
//! this control plane's class (Gateway API, `RouteParentStatus`). Other parents are other controllers' business.

use std::collections::BTreeSet;

use serde_json::Value;
use weft_compile::RouteStanding;
use weft_model::{FieldPath, GATEWAY_GROUP, Problem, Reason};

use super::condition::{Condition, spelt_out};
use super::{Entry, Told, reason, reference};

const ACCEPTED: &str = "Accepted";
const RESOLVED: &str = "ResolvedRefs";
const PARTIALLY_INVALID: &str = "PartiallyInvalid";

/// The entries that a route should have.
pub(crate) fn parents(told: &Told<'_>) -> Vec<Entry> {
    let standing = told.facts.standing.as_ref();
    let references = told.shown.references.iter().enumerate();
    let entries = references.filter_map(|(position, parent)| {
        let word = |part: &str| parent.get(part).and_then(Value::as_str);
        if is_service(parent) {
            let namespace = word("namespace").unwrap_or(&told.key.namespace);
            let name = word("name").unwrap_or_default();
            let refused = told.refusals.of("Service", namespace, name);
            return Some(Entry {
                reference: reference("", "Service", parent, None),
                conditions: conditions(told, position, refused),
            });
        }
        let is_ours = standing.is_some_and(|standing| standing.gateways.contains(&position));
        is_ours.then(|| Entry {
            reference: reference(GATEWAY_GROUP, "Gateway", parent, None),
            conditions: conditions(told, position, &[]),
        })
    });
    entries.collect()
}

/// The group of a parent is the Gateway API's where none is written, and core's is "".
fn is_service(parent: &Value) -> bool {
    parent.get("group").and_then(Value::as_str) == Some("")
        && parent.get("kind").and_then(Value::as_str) == Some("Service")
}

/// What is wrong, by where it is.
struct Faults<'a> {
    /// At this parent.
    parent: Vec<&'a Problem>,
    /// In rules that were left out.
    dropped: Vec<&'a Problem>,
    /// In references to backends.
    references: Vec<&'a Problem>,
    /// Anywhere else.
    elsewhere: Vec<&'a Problem>,
}

impl<'a> Faults<'a> {
    fn sorted(faults: Vec<&'a Problem>, parent: usize, standing: &RouteStanding) -> Self {
        let parents = FieldPath::from("spec.parentRefs");
        let rule = |nth| FieldPath::from("spec.rules").index(nth);
        let is_in = |problem: &Problem, rules: &mut dyn Iterator<Item = usize>| {
            let mut rules = rules.map(rule);
            rules.any(|rule| problem.field.is_within(&rule))
        };
        let mut sorted = Self {
            parent: Vec::new(),
            dropped: Vec::new(),
            references: Vec::new(),
            elsewhere: Vec::new(),
        };
        for fault in faults {
            if fault.field.is_within(&parents.index(parent)) {
                sorted.parent.push(fault);
            } else if fault.field.is_within(&parents) && fault.field != parents {
                // At another parent.
            } else if fault.reason == Reason::RefNotPermitted
                && !standing.gateways.contains(&parent)
            {
                // Nobody has to permit it to a Service as the parent.
            } else if reason::row(fault.reason).is_reference {
                sorted.references.push(fault);
            } else if is_in(fault, &mut standing.dropped.iter().copied()) {
                sorted.dropped.push(fault);
            } else if is_in(fault, &mut (0..standing.rules)) {
                // The rule stands, so it is a backend that does not.
                sorted.references.push(fault);
            } else {
                sorted.elsewhere.push(fault);
            }
        }
        sorted
    }
}

fn conditions(told: &Told<'_>, parent: usize, refused: &[String]) -> Vec<Condition> {
    let generation = told.fallen_back().unwrap_or(told.shown.generation);
    let none = RouteStanding::default();
    let standing = told.facts.standing.as_ref().unwrap_or(&none);
    let faults = Faults::sorted(told.faults(), parent, standing);
    let accepted = match told.facts.object {
        None => Condition::new(
            ACCEPTED,
            false,
            "UnsupportedValue",
            spelt_out(&told.facts.unread),
            generation,
        ),
        Some(_) => accepted(&faults, parent, standing, generation),
    };
    let is_accepted = accepted.status;
    let mut conditions = vec![accepted, resolved(&faults.references, generation)];
    if is_accepted {
        conditions.extend(partially_invalid(told, &faults, standing));
    }
    conditions.extend(Condition::programmed(refused, generation));
    conditions
}

fn accepted(
    faults: &Faults<'_>,
    parent: usize,
    standing: &RouteStanding,
    generation: u64,
) -> Condition {
    let lost = faults.parent.iter();
    let lost = lost.filter(|fault| fault.reason == Reason::Conflicted);
    let ports = standing.ports.get(&parent).copied().unwrap_or(0);
    let held = ports.saturating_sub(lost.count());
    let refuse = |reason, faults: &[&Problem]| {
        let message = spelt_out(faults.iter().copied());
        Condition::new(ACCEPTED, false, reason, message, generation)
    };
    if let (0, Some(first)) = (held, faults.parent.first()) {
        return refuse(reason::row(first.reason).parent, &faults.parent);
    }
    if standing.rules > 0 && standing.dropped.len() == standing.rules {
        let faults = [&faults.dropped[..], &faults.elsewhere[..]].concat();
        let reason = faults
            .first()
            .map_or("UnsupportedValue", |first| reason::row(first.reason).rule);
        return refuse(reason, &faults);
    }
    let remarks = faults.parent.iter().chain(&faults.elsewhere).copied();
    let remarks = spelt_out(remarks);
    let message = match remarks.is_empty() {
        true => "the route is in force".to_owned(),
        false => format!("the route is in force, except for: {remarks}"),
    };
    Condition::new(ACCEPTED, true, ACCEPTED, message, generation)
}

fn resolved(faults: &[&Problem], generation: u64) -> Condition {
    let Some(first) = faults.first() else {
        let message = "all backends are there";
        return Condition::new(RESOLVED, true, RESOLVED, message, generation);
    };
    let message = spelt_out(faults.iter().copied());
    Condition::new(
        RESOLVED,
        false,
        reason::row(first.reason).backend,
        message,
        generation,
    )
}

/// Rules left out, or the last generation left out as a whole. The beginnings of the messages are
/// the Gateway API's.
fn partially_invalid(
    told: &Told<'_>,
    faults: &Faults<'_>,
    standing: &RouteStanding,
) -> Option<Condition> {
    let last = told.shown.generation;
    if let Some(in_force) = told.fallen_back() {
        let why = spelt_out(&told.facts.unread);
        let message = format!("Fall Back: generation {in_force} stays in force: {why}");
        let reason = "UnsupportedValue";
        return Some(Condition::new(
            PARTIALLY_INVALID,
            true,
            reason,
            message,
            last,
        ));
    }
    if standing.dropped.is_empty() {
        return None;
    }
    let first = faults.dropped.first();
    let reason = first.map_or("UnsupportedValue", |first| reason::row(first.reason).rule);
    let message = format!(
        "Dropped Rule {}: {}",
        numbers(&standing.dropped),
        spelt_out(faults.dropped.iter().copied())
    );
    Some(Condition::new(
        PARTIALLY_INVALID,
        true,
        reason,
        message,
        last,
    ))
}

fn numbers(positions: &BTreeSet<usize>) -> String {
    let positions: Vec<String> = positions.iter().map(ToString::to_string).collect();
    positions.join(", ")
}
