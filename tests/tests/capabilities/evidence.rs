//! What a golden case shows of a leaf, found out by changing the case: nothing is taken on trust.
//!
//! - *works*: some other value there, or none, makes another snapshot, and nobody complains. Where no other value can stand alone
//!   (a `type` that goes with its neighbours, a `kind`, a name of something else), the complaint about it is at the field or says that a
//!   reference leads nowhere, and the snapshot is another one as well.
//! - *refused*: the case, as it is, has a finding at the field, above it, or at the `type` beside it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use weft_api::FieldPath;
use weft_compile::Settings;
use weft_model::{Reason, Severity};
use weft_source::Diagnostic;

use crate::leaves::Leaf;
use crate::places::{alternatives, places, with, without};

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../control-plane/compile/tests/golden"
);

/// Fields whose value must agree with others beside it, so that it cannot change alone.
const BOUND: [&str; 3] = ["type", "kind", "group"];

/// What comes of objects.
struct Outcome {
    snapshot: String,
    findings: Vec<Diagnostic>,
}

/// A golden case.
pub struct Case {
    pub name: String,
    pub objects: Vec<Value>,
    folder: TempDir,
    before: Outcome,
}

impl Case {
    /// All of them, by name.
    pub fn all() -> Vec<Self> {
        let folders = fs::read_dir(GOLDEN).unwrap();
        let names = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut cases: Vec<Self> = names.map(Self::read).collect();
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        cases
    }

    fn read(name: String) -> Self {
        let text = fs::read_to_string(Path::new(GOLDEN).join(&name).join("input.yaml")).unwrap();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let objects: Vec<_> = objects.into_iter().filter(Value::is_object).collect();
        let folder = tempfile::tempdir().unwrap();
        let before = outcome(folder.path(), &objects);
        Self {
            name,
            objects,
            folder,
            before,
        }
    }

    /// With one object replaced.
    fn changed(&self, at: usize, object: Value) -> Outcome {
        let mut objects = self.objects.clone();
        objects[at] = object;
        outcome(self.folder.path(), &objects)
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = (usize, &Value)> {
        let objects = self.objects.iter().enumerate();
        objects.filter(move |(_, object)| object["kind"] == kind)
    }

    /// Names, namespaces and ports of the case's objects.
    fn names(&self) -> Vec<Value> {
        let mut names = Vec::new();
        for object in &self.objects {
            let metadata = &object["metadata"];
            names.extend([metadata["name"].clone(), metadata["namespace"].clone()]);
            for port in object["spec"]["ports"].as_array().into_iter().flatten() {
                names.extend([port["port"].clone(), port["name"].clone()]);
            }
        }
        names.sort_by_key(Value::to_string);
        names.dedup();
        names
    }

    /// Whether anything comes out otherwise when all these leaves have other values at once.
    pub fn notices(&self, leaves: &BTreeSet<(String, String)>) -> bool {
        let mut objects = self.objects.clone();
        for (kind, leaf) in leaves {
            for object in objects.iter_mut().filter(|object| object["kind"] == **kind) {
                for place in places(object, leaf) {
                    let Some(value) = place.find_mut(object) else {
                        continue;
                    };
                    let text = value.as_str().map(|text| format!("x{text}").into());
                    let other = text.or_else(|| alternatives(value, &[], &[]).pop());
                    *value = other.unwrap_or(Value::Null);
                }
            }
        }
        outcome(self.folder.path(), &objects).snapshot != self.before.snapshot
    }

    /// Whether the leaf has an effect here.
    pub fn shows_effect(&self, kind: &str, leaf: &Leaf) -> bool {
        let names = self.names();
        self.of_kind(kind).any(|(at, object)| {
            places(object, &leaf.path).iter().any(|place| {
                let value = place.find(object);
                let others = value.map(|value| alternatives(value, &leaf.variants, &names));
                let others = others.into_iter().flatten();
                let others = others.filter_map(|other| with(object, place, other));
                let mut changes = without(object, place).into_iter().chain(others);
                changes.any(|change| self.is_effect(leaf, place, &self.changed(at, change)))
            })
        })
    }

    fn is_effect(&self, leaf: &Leaf, place: &FieldPath, after: &Outcome) -> bool {
        let known: BTreeSet<String> = self.before.errors().map(told).collect();
        let bound = BOUND
            .iter()
            .any(|name| leaf.path.ends_with(&format!(".{name}")));
        let beside = place.parent().map(|parent| parent.to_string());
        let mut new = after
            .errors()
            .filter(|finding| !known.contains(&told(finding)));
        after.snapshot != self.before.snapshot
            && new.all(|finding| {
                let beside = beside.as_ref();
                let here = beside.is_some_and(|at| finding.field.as_str().starts_with(at));
                let elsewhere =
                    [Reason::Conflicted, Reason::PolicyDenies].contains(&finding.reason);
                finding.reason.is_missing_reference() || elsewhere || (bound && here)
            })
    }

    /// A value that the leaf may not have here although it is one of the schema's.
    pub fn exception(&self, kind: &str, leaf: &str) -> Option<String> {
        self.of_kind(kind).find_map(|(_, object)| {
            places(object, leaf).iter().find_map(|place| {
                let finding = self.before.findings.iter().find(|finding| {
                    finding.reason == Reason::UnsupportedValue
                        && finding.subject.as_ref().is_some_and(|s| *s.kind == *kind)
                        && finding.field.as_str() == place.to_string()
                })?;
                Some(finding.message.clone())
            })
        })
    }

    /// What is said about the leaf here.
    pub fn refusal(&self, kind: &str, leaf: &str) -> Option<String> {
        self.of_kind(kind).find_map(|(_, object)| {
            let name = object["metadata"]["name"].as_str()?;
            places(object, leaf).iter().find_map(|place| {
                let finding = self.before.findings.iter().find(|finding| {
                    let subject = finding.subject.as_ref();
                    subject.is_some_and(|s| *s.kind == *kind && *s.name == *name)
                        && is_refusal(finding)
                        && speaks_of(finding.field.as_str(), place)
                })?;
                Some(finding.message.clone())
            })
        })
    }
}

impl Outcome {
    fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        let findings = self.findings.iter();
        findings.filter(|finding| finding.severity == Severity::Error)
    }
}

/// Without its line: a changed object is written differently.
fn told(finding: &Diagnostic) -> String {
    format!(
        "{:?} {}: {}",
        finding.subject, finding.field, finding.message
    )
}

/// Not of this value alone, but of what the field is for.
fn is_refusal(finding: &Diagnostic) -> bool {
    let reasons = [
        Reason::UnsupportedValue,
        Reason::UnknownField,
        Reason::InvalidKind,
        Reason::HostnamesIgnored,
    ];
    // A type of filter that only the experimental channel has.
    reasons.contains(&finding.reason) || finding.message.starts_with("unknown variant")
}

/// Whether a finding at `field` is about the value at `place`: there, above (but not about the whole `spec`), or at a `type` beside or
/// above.
fn speaks_of(field: &str, place: &FieldPath) -> bool {
    let mut at = Some(place.clone());
    while let Some(here) = at.filter(|here| here.segments().len() > 1) {
        let text = here.to_string();
        let beside = here.parent().map(|parent| parent.key("type").to_string());
        if field == text || Some(field) == beside.as_deref() {
            return true;
        }
        at = here.parent();
    }
    false
}

fn outcome(folder: &Path, objects: &[Value]) -> Outcome {
    let file = folder.join("input.yaml");
    let documents: String = objects
        .iter()
        .map(|object| format!("---\n{object}\n"))
        .collect();
    fs::write(&file, documents).unwrap();
    let loaded = weft_source::load(&[file]);
    let (snapshot, findings) = weft_compile::compile(Settings::default(), &loaded.world);
    let compiled = findings
        .iter()
        .map(|finding| loaded.locator.locate(finding));
    Outcome {
        snapshot: serde_json::to_string(&snapshot).unwrap(),
        findings: loaded.diagnostics.iter().cloned().chain(compiled).collect(),
    }
}
