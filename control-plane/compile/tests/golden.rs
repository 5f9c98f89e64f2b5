//! YAML in, snapshot and diagnostics out: one folder under `tests/golden` for each feature and each
//! error. `UPDATE_GOLDEN=1 cargo test -p weft-compile --test golden` writes what comes out now.
//!
//! Each case is read twice: as a folder, and as the objects that an API server would return for the
//! same documents. Both must come out alike.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::{Value, json};
use weft_compile::{Settings, compile};
use weft_model::Spec;
use weft_source::Diagnostic;

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<_> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    cases
}

/// The two texts of a case: the snapshot as JSON; each diagnostic as
/// `LINE severity Reason Kind namespace/name field: message`.
fn outcome(case: &Path) -> (String, String) {
    let loaded = weft_source::load(&[case.join("input.yaml")]);
    let (snapshot, findings) = compile(Settings::default(), &loaded.world);
    let found = findings
        .iter()
        .map(|finding| loaded.locator.locate(finding));
    let mut diagnostics = String::new();
    for found in loaded.diagnostics.iter().cloned().chain(found) {
        let line = found.place.map_or(0, |place| place.line);
        let subject = found.subject.map(|subject| subject.to_string());
        let (severity, reason, field) = (found.severity, found.reason, found.field);
        let subject = subject.unwrap_or_default();
        writeln!(
            diagnostics,
            "{line:>3} {severity} {reason} {subject} {field}: {}",
            found.message
        )
        .unwrap();
    }
    let snapshot = serde_json::to_string_pretty(&snapshot).unwrap();
    (snapshot + "\n", diagnostics)
}

#[test]
fn every_case_comes_out_as_written_down() {
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 20, "the cases are not where they should be");
    for case in &cases {
        let (snapshot, diagnostics) = outcome(case);
        for (file, actual) in [
            ("snapshot.json", snapshot),
            ("diagnostics.txt", diagnostics),
        ] {
            let path = case.join(file);
            if update {
                fs::write(&path, &actual).unwrap();
            } else if fs::read_to_string(&path).unwrap_or_default() != actual {
                wrong.push(format!("{}:\n{actual}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What an API server returns for the document at this position: it has a version, a creation
/// time and a namespace.
fn as_returned(position: usize, mut document: Value) -> Value {
    let kind = document["kind"].as_str().unwrap_or("").to_owned();
    let metadata = document["metadata"].as_object_mut().unwrap();
    let mut set = |key: &str, value: Value| {
        metadata.entry(key).or_insert(value);
    };
    set("resourceVersion", json!((position + 1).to_string()));
    set("uid", json!(format!("uid-{position}")));
    let created = format!("1970-01-01T00:{:02}:{:02}Z", position / 60, position % 60);
    set("creationTimestamp", json!(created));
    set(
        "managedFields",
        json!([{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]),
    );
    if !["Namespace", "GatewayClass", "MeshConfig"].contains(&kind.as_str()) {
        set("namespace", json!("default"));
    }
    document
}

/// Kubernetes' own kinds are checked by the API server: what it would not store does not come.
fn is_stored(found: &Diagnostic) -> bool {
    let own = ["Service", "Pod", "EndpointSlice", "Deployment", "Namespace"];
    let kind = found.subject.as_ref().map(|subject| &*subject.kind);
    !kind.is_none_or(|kind| own.contains(&kind))
}

#[test]
fn every_case_comes_out_the_same_from_a_cluster() {
    let mut wrong = Vec::new();
    for case in cases() {
        let text = fs::read_to_string(case.join("input.yaml")).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let documents = documents.into_iter().filter(|value| !value.is_null());
        let objects: Vec<Value> = documents
            .enumerate()
            .map(|(position, document)| as_returned(position, document))
            .collect();
        let cluster = weft_source::kubernetes::load(&objects);
        let folder = weft_source::load(&[case.join("input.yaml")]);
        let specs = |world: &weft_model::World| -> Vec<_> {
            let objects = world.objects();
            // A folder has no UIDs.
            let without_uid = |mut spec: Spec| {
                if let Spec::Pod(pod) = &mut spec {
                    pod.uid = "".into();
                }
                spec
            };
            objects
                .map(|object| (object.key.clone(), without_uid(object.spec.clone())))
                .collect()
        };
        let (snapshot, findings) = compile(Settings::default(), &cluster.world);
        let (expected, expected_findings) = compile(Settings::default(), &folder.world);
        let told = |found: &[Diagnostic]| -> Vec<_> {
            let mut told: Vec<_> = found
                .iter()
                .filter(|found| is_stored(found))
                .map(|found| {
                    let place = (found.subject.clone(), found.field.clone());
                    (place, found.severity, found.reason, found.message.clone())
                })
                .collect();
            told.sort();
            told
        };
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let mut compare = |what: &str, is_same: bool| {
            if !is_same {
                wrong.push(format!("{name}: {what}"));
            }
        };
        compare("world", specs(&cluster.world) == specs(&folder.world));
        compare(
            "snapshot",
            serde_json::to_value(&snapshot).unwrap() == serde_json::to_value(&expected).unwrap(),
        );
        compare("findings", findings == expected_findings);
        compare(
            "diagnostics",
            told(&cluster.diagnostics) == told(&folder.diagnostics),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
