//! YAML in, snapshot and diagnostics out: one folder under `tests/golden` for each feature and each
//! error. `UPDATE_GOLDEN=1 cargo test -p weft-compile --test golden` writes what comes out now.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use weft_compile::{Settings, compile};

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
