//! Weft's own kinds: `status.ancestors` of a policy, an entry for each target (Gateway API,
//! `PolicyStatus`), one for its namespace where it names none; `status.conditions` of the
//! MeshConfig.

use serde_json::{Value, json};
use weft_model::{FieldPath, Kind, Problem};

use super::condition::{Condition, spelt_out};
use super::{Entry, Told, reason, reference};

/// The entries that a policy should have.
pub(crate) fn ancestors(told: &Told<'_>) -> Vec<Entry> {
    let namespace = &*told.key.namespace;
    if told.shown.references.is_empty() {
        let written = json!({"name": namespace});
        return vec![Entry {
            reference: reference("", "Namespace", &written, None),
            conditions: at(told, None, &own_refusals(told)),
        }];
    }
    let targets = told.shown.references.iter().enumerate();
    let entries = targets.map(|(position, target)| {
        let word = |part: &str| target.get(part).and_then(Value::as_str);
        let (group, kind) = (
            word("group").unwrap_or(""),
            word("kind").unwrap_or("Service"),
        );
        let mut refused = own_refusals(told);
        if told.key.kind == Kind::TrafficPolicy {
            let name = word("name").unwrap_or_default();
            refused.extend_from_slice(told.refusals.of(kind, namespace, name));
        }
        Entry {
            reference: reference(group, kind, target, Some(namespace)),
            conditions: at(told, Some(position), &refused),
        }
    });
    entries.collect()
}

/// The conditions that the MeshConfig should have.
pub(crate) fn conditions(told: &Told<'_>) -> Vec<Condition> {
    at(told, None, &own_refusals(told))
}

fn own_refusals(told: &Told<'_>) -> Vec<String> {
    let key = told.key;
    let refused = told
        .refusals
        .of(key.kind.as_str(), &key.namespace, &key.name);
    refused.to_vec()
}

/// What is said of the policy at the target of this position.
fn at(told: &Told<'_>, target: Option<usize>, refused: &[String]) -> Vec<Condition> {
    let generation = told.shown.generation;
    let targets = FieldPath::from("spec.targetRefs");
    let faults = told.faults();
    // A fault at one target is none of the others'.
    let (at_targets, common): (Vec<&Problem>, Vec<&Problem>) = faults
        .into_iter()
        .partition(|fault| fault.field.is_within(&targets) && fault.field != targets);
    let own = at_targets.into_iter().filter(|fault| {
        target.is_some_and(|position| fault.field.is_within(&targets.index(position)))
    });
    let (partial, whole): (Vec<&Problem>, Vec<&Problem>) = common
        .into_iter()
        .partition(|fault| reason::row(fault.reason).costs_only_itself);
    let against: Vec<&Problem> = own.chain(whole).collect();

    let mut conditions = vec![accepted(told, &against)];
    if conditions[0].status && !partial.is_empty() {
        let message = spelt_out(partial);
        let reason = "UnsupportedValue";
        let partial = Condition::new("PartiallyInvalid", true, reason, message, generation);
        conditions.push(partial);
    }
    conditions.extend(Condition::programmed(refused, generation));
    conditions
}

fn accepted(told: &Told<'_>, against: &[&Problem]) -> Condition {
    let generation = told.shown.generation;
    let refuse =
        |reason, message: String| Condition::new("Accepted", false, reason, message, generation);
    if told.facts.object.is_none() {
        return refuse("Invalid", spelt_out(&told.facts.unread));
    }
    if let Some(in_force) = told.fallen_back() {
        let why = spelt_out(&told.facts.unread);
        return refuse(
            "Invalid",
            format!("generation {in_force} stays in force: {why}"),
        );
    }
    match against.first() {
        Some(first) => refuse(
            reason::row(first.reason).policy,
            spelt_out(against.iter().copied()),
        ),
        None => {
            let remarks = spelt_out(&told.facts.remarks);
            let message = match remarks.is_empty() {
                true => "in force".to_owned(),
                false => format!("in force, but {remarks}"),
            };
            Condition::new("Accepted", true, "Accepted", message, generation)
        }
    }
}
