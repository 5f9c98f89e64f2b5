//! The status that is there and the one that should be → what to write, if anything.
//!
//! The lists are replaced as wholes, and others write into them too: their entries stay as they
//! are, in their places. A condition keeps its time of transition as long as its status stays.

use serde_json::{Value, json};
use weft_model::CONTROLLER;

use super::condition::Condition;
use super::{Desired, Entry};

/// Entries that the lists take (Gateway API, `RouteStatus` and `PolicyStatus`).
const MOST_PARENTS: usize = 32;
const MOST_ANCESTORS: usize = 16;

/// The field of the status with its new value; `None` when it says the same already. `now` is in
/// the form of RFC 3339.
pub(crate) fn difference(status: &Value, desired: &Desired, now: &str) -> Option<Value> {
    let (field, most) = match desired {
        Desired::Parents(_) => ("parents", MOST_PARENTS),
        Desired::Ancestors(_) => ("ancestors", MOST_ANCESTORS),
        Desired::Conditions(_) => ("conditions", usize::MAX),
    };
    let before = status.get(field).and_then(Value::as_array);
    let before = before.map_or(&[][..], Vec::as_slice);
    let mut after = match desired {
        Desired::Parents(entries) => with_entries(before, entries, "parentRef", now),
        Desired::Ancestors(entries) => with_entries(before, entries, "ancestorRef", now),
        Desired::Conditions(conditions) => with_conditions(before, conditions, now),
    };
    after.truncate(most.max(before.len()));
    (after != before).then(|| json!({field: after}))
}

/// The list with our entries as they should be.
fn with_entries(before: &[Value], wanted: &[Entry], key: &str, now: &str) -> Vec<Value> {
    let is_ours = |entry: &Value| entry["controllerName"] == CONTROLLER;
    let mut missing: Vec<&Entry> = Vec::new();
    for entry in wanted {
        // One reference twice is one entry.
        if !missing
            .iter()
            .any(|other| other.reference == entry.reference)
        {
            missing.push(entry);
        }
    }
    let written = |entry: &Entry, conditions: &[Value]| {
        json!({
            key: entry.reference,
            "controllerName": CONTROLLER,
            "conditions": with_conditions(conditions, &entry.conditions, now),
        })
    };
    let mut after = Vec::new();
    for old in before {
        if !is_ours(old) {
            after.push(old.clone());
            continue;
        }
        let wanted = missing.iter().position(|entry| entry.reference == old[key]);
        if let Some(position) = wanted {
            let conditions = old["conditions"].as_array();
            let conditions = conditions.map_or(&[][..], Vec::as_slice);
            after.push(written(missing.remove(position), conditions));
        }
    }
    after.extend(missing.into_iter().map(|entry| written(entry, &[])));
    after
}

/// The conditions as they should be, in the order in which they are there.
fn with_conditions(before: &[Value], wanted: &[Condition], now: &str) -> Vec<Value> {
    let mut missing: Vec<&Condition> = wanted.iter().collect();
    let mut after = Vec::new();
    for old in before {
        let wanted = missing.iter().position(|new| old["type"] == new.r#type);
        if let Some(position) = wanted {
            after.push(written(missing.remove(position), old, now));
        }
    }
    let none = Value::Null;
    after.extend(missing.into_iter().map(|new| written(new, &none, now)));
    after
}

fn written(new: &Condition, old: &Value, now: &str) -> Value {
    let status = if new.status { "True" } else { "False" };
    let since = old["lastTransitionTime"].as_str();
    let since = since.filter(|_| old["status"] == status).unwrap_or(now);
    json!({
        "type": new.r#type,
        "status": status,
        "reason": new.reason,
        "message": new.message,
        "observedGeneration": new.generation,
        "lastTransitionTime": since,
    })
}
