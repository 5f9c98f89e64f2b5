//! YAML in, statuses out: a folder under `golden` for each case, with the objects as an API server
//! has them and what each is told. `UPDATE_GOLDEN=1 cargo test -p weft-control-plane --lib status`
//! writes what comes out now.

use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::{Map, Value, json};
use weft_compile::Settings;
use weft_model::{CONTROLLER, Change, Kind, ObjectKey, Problem, Reason};
use weft_source::{Batch, kubernetes};
use weft_xds::{Limits, Server};

use super::merge::difference;
use super::*;
use crate::mesh::Mesh;

const NOW: &str = "2026-01-01T00:00:00Z";

fn cases() -> Vec<PathBuf> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kubernetes/status/golden");
    let entries = fs::read_dir(root).unwrap();
    let mut cases: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// The documents as objects of an API server, each older than the next.
fn documents(case: &Path) -> Vec<Value> {
    let text = fs::read_to_string(case.join("input.yaml")).unwrap();
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    for (position, document) in documents.iter_mut().enumerate() {
        let metadata = &mut document["metadata"];
        metadata["resourceVersion"] = (position + 1).to_string().into();
        metadata["generation"] = metadata.get("generation").cloned().unwrap_or(json!(1));
        metadata["creationTimestamp"] = format!("1970-01-01T00:00:{position:02}Z").into();
    }
    documents
}

fn key(document: &Value) -> ObjectKey {
    let word = |path| document.pointer(path).and_then(Value::as_str).unwrap_or("");
    let kind = Kind::parse(word("/kind")).unwrap();
    ObjectKey::new(kind, word("/metadata/namespace"), word("/metadata/name"))
}

fn shown(document: &Value) -> Status {
    let references = ["parentRefs", "targetRefs"].map(|field| document["spec"].get(field));
    let references = references.into_iter().flatten().next();
    Status {
        version: 1,
        generation: document["metadata"]["generation"].as_u64().unwrap(),
        references: references.map_or_else(Vec::new, |found| found.as_array().unwrap().clone()),
        status: document["status"].clone(),
        since: 1,
    }
}

fn mesh(documents: &[Value]) -> Mesh {
    let trust = weft_proto::mesh::TrustBundle::default();
    let server = Server::new("test", trust, Limits::default());
    let mesh = Mesh::new(Settings::default(), server);
    let loaded = kubernetes::load(documents);
    mesh.open(Batch {
        number: 1,
        changes: loaded
            .world
            .objects()
            .cloned()
            .map(Change::Upsert)
            .collect(),
        diagnostics: loaded.diagnostics,
        ..Batch::default()
    });
    mesh
}

/// What each object is told, as far as it does not say so yet.
fn statuses(case: &Path) -> String {
    let documents = documents(case);
    let mesh = mesh(&documents);
    let keys: Vec<ObjectKey> = documents.iter().map(key).collect();
    let facts = mesh.facts(keys.iter());
    let mut statuses = Map::new();
    for (key, document) in keys.iter().zip(&documents) {
        let shown = shown(document);
        let Some(desired) = desired(key, &shown, &facts[key], &Refusals::default()) else {
            continue;
        };
        let Some(mut status) = difference(&shown.status, &desired, NOW) else {
            continue;
        };
        let written = shown_with(&shown, &status);
        let again = difference(&written, &desired, "later");
        assert_eq!(again, None, "{key} is written twice");
        statuses.insert(key.to_string(), status.take());
    }
    serde_saphyr::to_string(&statuses).unwrap()
}

fn shown_with(shown: &Status, status: &Value) -> Value {
    let mut all = shown.status.as_object().cloned().unwrap_or_default();
    all.extend(status.as_object().unwrap().clone());
    Value::Object(all)
}

#[test]
fn every_case_comes_out_as_written_down() {
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let cases = cases();
    assert!(cases.len() >= 5, "the cases are not where they should be");
    for case in cases {
        let path = case.join("statuses.yaml");
        let now = statuses(&case);
        if update {
            fs::write(&path, &now).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(written == now, "{}:\n{now}", path.display());
    }
}

fn route(generation: u64) -> (ObjectKey, Status, Facts) {
    let documents = [
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"namespace": "shop", "name": "web", "generation": 1},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": "web"}],
                "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
            },
        }),
    ];
    let key = key(&documents[1]);
    let facts = mesh(&documents)
        .facts([&key].into_iter())
        .remove(&key)
        .unwrap();
    let mut status = shown(&documents[1]);
    status.generation = generation;
    (key, status, facts)
}

fn parents(desired: Option<Desired>) -> Vec<Entry> {
    match desired {
        Some(Desired::Parents(entries)) => entries,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_route_that_turned_bad_says_which_generation_stays() {
    let (key, status, mut facts) = route(2);
    facts.unread.push(Problem {
        field: "spec.rules[0].backendRefs[0].weight".into(),
        reason: Reason::InvalidValue,
        message: "not a number".to_owned(),
    });
    let entries = parents(desired(&key, &status, &facts, &Refusals::default()));
    let conditions = &entries[0].conditions;
    assert_eq!(conditions[0].generation, 1, "{conditions:?}");
    assert!(
        conditions[0].status && conditions[1].status,
        "{conditions:?}"
    );
    let partial = &conditions[2];
    assert_eq!((partial.r#type, partial.status), ("PartiallyInvalid", true));
    assert_eq!(
        partial.message,
        "Fall Back: generation 1 stays in force: spec.rules[0].backendRefs[0].weight: not a number"
    );

    // Nothing of it could ever be read.
    facts.object = None;
    let entries = parents(desired(&key, &status, &facts, &Refusals::default()));
    let accepted = &entries[0].conditions[0];
    assert_eq!((accepted.status, accepted.generation), (false, 2));
    assert_eq!(accepted.reason, "UnsupportedValue");
}

#[test]
fn what_a_proxy_refuses_stands_at_the_parent() {
    let (key, status, facts) = route(1);
    let mut refusals = Refusals::default();
    refusals.add(
        "Service",
        "shop",
        "web",
        "the proxy of shop/a refused it".to_owned(),
    );
    refusals.add("Service", "shop", "other", "and that".to_owned());
    let entries = parents(desired(&key, &status, &facts, &refusals));
    let programmed = entries[0].conditions.last().unwrap();
    assert_eq!(programmed.reason, "RefusedByProxy");
    assert_eq!(programmed.message, "the proxy of shop/a refused it");

    // It is taken back when no proxy refuses any more.
    let written = difference(&Value::Null, &Desired::Parents(entries), NOW).unwrap();
    let now = desired(&key, &status, &facts, &Refusals::default()).unwrap();
    let after = difference(&written, &now, "later").unwrap();
    let conditions = after["parents"][0]["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 2);
    assert!(
        conditions
            .iter()
            .all(|one| one["lastTransitionTime"] == NOW)
    );
}

#[test]
fn what_others_wrote_stays_in_its_place() {
    let (key, status, facts) = route(1);
    let ours = desired(&key, &status, &facts, &Refusals::default()).unwrap();
    let theirs = |name: &str| json!({"controllerName": name, "parentRef": {"name": "gw"}, "x": 1});
    let old = json!({"controllerName": CONTROLLER, "parentRef": {"name": "gone"}});
    let before = json!({"parents": [theirs("a"), old, theirs("b")]});
    let after = difference(&before, &ours, NOW).unwrap();
    let after = after["parents"].as_array().unwrap();
    assert_eq!(after[..2], [theirs("a"), theirs("b")]);
    assert_eq!(after[2]["controllerName"], CONTROLLER);
    assert_eq!(after.len(), 3);

    // A route that names no Service any more leaves only what others wrote.
    let none = Desired::Parents(Vec::new());
    let left = difference(&json!({"parents": after}), &none, NOW).unwrap();
    assert_eq!(left["parents"], json!([theirs("a"), theirs("b")]));
    assert_eq!(difference(&Value::Null, &none, NOW), None);
}

#[test]
fn a_transition_is_a_change_of_the_status() {
    let at = |status, message: &str| {
        let condition = Condition::new("Accepted", status, "Reason", message, 1);
        Desired::Conditions(vec![condition])
    };
    let first = difference(&Value::Null, &at(true, "a"), "1").unwrap();
    assert_eq!(difference(&first, &at(true, "a"), "2"), None);
    let second = difference(&first, &at(true, "b"), "2").unwrap();
    assert_eq!(second["conditions"][0]["lastTransitionTime"], "1");
    let third = difference(&second, &at(false, "b"), "3").unwrap();
    assert_eq!(third["conditions"][0]["lastTransitionTime"], "3");
}
