//! Policies and routes: whether what people wrote is in force.

use std::collections::BTreeSet;

use serde_json::Value;
use weft_model::CONTROLLER;

use super::catalogue::Fault;
use super::facts::{Facts, list, named, text};
use super::identity::is_of_authority;

pub(crate) fn in_force(facts: &Facts) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut told = BTreeSet::new();
    for object in &facts.objects {
        for (reason, message) in objections(object) {
            told.insert(named(object));
            faults.push(Fault::error(
                format!("{}: {reason}: {message}", named(object)),
                format!(
                    "change the field that is named; `weft wait {}` tells when it is in force",
                    target(object)
                ),
            ));
        }
    }
    let mut others = BTreeSet::new();
    let findings = facts.replicas.iter().flat_map(|replica| replica.errors());
    for finding in findings.filter(|one| !is_of_authority(one)) {
        let name = match text(&finding["namespace"]) {
            "" => format!("{} {}", text(&finding["kind"]), text(&finding["name"])),
            namespace => format!(
                "{} {namespace}/{}",
                text(&finding["kind"]),
                text(&finding["name"])
            ),
        };
        if !told.contains(&name) {
            others.insert(text(&finding["text"]).to_owned());
        }
    }
    let hint =
        "change the field that is named; docs/policy.md and docs/route.md say what can be written";
    faults.extend(others.into_iter().map(|text| Fault::error(text, hint)));
    faults
}

/// `KIND/NAME -n NAMESPACE`
fn target(object: &Value) -> String {
    let name = format!(
        "{}/{}",
        text(&object["kind"]),
        text(&object["metadata"]["name"])
    );
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{name} -n {namespace}"),
        None => name,
    }
}

/// What the conditions that the mesh wrote have against the object, each with its reason.
fn objections(object: &Value) -> BTreeSet<(String, String)> {
    let status = &object["status"];
    let entries = list(&status["ancestors"]).chain(list(&status["parents"]));
    let ours = entries.filter(|entry| entry["controllerName"] == CONTROLLER);
    let conditions = ours
        .flat_map(|entry| list(&entry["conditions"]))
        .chain(list(&status["conditions"]));
    let bad = conditions.filter(|one| match text(&one["type"]) {
        "Accepted" | "ResolvedRefs" | "Programmed" => one["status"] == "False",
        "PartiallyInvalid" => one["status"] == "True",
        _ => false,
    });
    bad.map(|one| {
        (
            text(&one["reason"]).to_owned(),
            text(&one["message"]).to_owned(),
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::facts::ReplicaFacts;
    use super::*;

    #[test]
    fn what_is_not_in_force_is_named_once() {
        let entry = |controller: &str, kind: &str, status: &str| {
            json!({
                "controllerName": controller,
                "conditions": [{"type": kind, "status": status, "reason": "TargetNotFound", "message": "there is no Service shop/w"}],
            })
        };
        let ours = entry(CONTROLLER, "Accepted", "False");
        let policy = json!({
            "kind": "TrafficPolicy", "metadata": {"namespace": "shop", "name": "p"},
            "status": {"ancestors": [ours.clone(), ours, entry("other", "Accepted", "False"), entry(CONTROLLER, "Accepted", "True")]},
        });
        let finding = |name: &str| {
            json!({
                "severity": "error", "kind": "TrafficPolicy", "namespace": "shop", "name": name, "text": format!("TrafficPolicy shop/{name}: odd"),
            })
        };
        let replica = || ReplicaFacts {
            diagnostics: vec![finding("p"), finding("q")],
            ..ReplicaFacts::default()
        };
        let facts = Facts {
            objects: vec![policy],
            replicas: vec![replica(), replica()],
            ..Facts::default()
        };
        let found = in_force(&facts);
        let said: Vec<&str> = found.iter().map(|fault| fault.message.as_str()).collect();
        assert_eq!(
            said,
            [
                "TrafficPolicy shop/p: TargetNotFound: there is no Service shop/w",
                "TrafficPolicy shop/q: odd"
            ]
        );
        assert!(
            found[0]
                .hint
                .ends_with("`weft wait TrafficPolicy/p -n shop` tells when it is in force")
        );
    }
}
