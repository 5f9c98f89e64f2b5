//! `docs/capabilities.md` against the schemas that are accepted and the tests that there are: see the page's own head.
//! `make capabilities` writes what this finds.
#![allow(clippy::unwrap_used)]

mod elsewhere;
mod evidence;
mod leaves;
mod page;
mod places;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

use elsewhere::{CORE, EXPERIMENTAL, GATEWAYS, LOCAL, Named};
use evidence::Case;
use leaves::{Leaf, leaves};
use page::{Row, Rows, parse, render};
use weft_api::Kind;

/// The kinds whose whole `spec` is the mesh's business.
const WHOLE: [Kind; 6] = [
    Kind::HttpRoute,
    Kind::GrpcRoute,
    Kind::AuthorizationPolicy,
    Kind::PeerAuthentication,
    Kind::TrafficPolicy,
    Kind::MeshConfig,
];

/// What no golden case can show, section by section: what is said of Gateways, which are not served; pods and what makes
/// them, where `weft up` runs them.
const BY_NAME: [(&str, &[Named]); 2] = [("Gateways", GATEWAYS), ("On one machine", LOCAL)];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All leaves: section (a kind), and the leaf.
fn universe() -> Vec<(&'static str, Leaf)> {
    let plain = |path: &&str| Leaf {
        path: path.to_string(),
        variants: Vec::new(),
    };
    let mut all = Vec::new();
    for kind in WHOLE {
        all.extend(leaves(kind).into_iter().map(|leaf| (kind.as_str(), leaf)));
    }
    for (kind, paths) in EXPERIMENTAL.iter().chain(CORE) {
        all.extend(paths.iter().map(|path| (*kind, plain(path))));
    }
    all
}

/// The row of a leaf: what the page says, if that is so; otherwise what can be found.
fn row(cases: &[Case], kind: &str, leaf: &Leaf, said: Option<&Row>, anew: bool) -> Option<Row> {
    let exception = cases
        .iter()
        .find_map(|case| case.exception(kind, &leaf.path))
        .map(|message| format!("but: {message}"));
    let works = |case: &Case| Row {
        works: true,
        test: format!("golden/{}", case.name),
        note: exception.clone().unwrap_or_default(),
    };
    let refused = |case: &Case| {
        Some(Row {
            works: false,
            test: format!("golden/{}", case.name),
            note: case.refusal(kind, &leaf.path)?,
        })
    };
    if let Some(said) = said
        && let Some(case) = cases
            .iter()
            .find(|case| said.test == format!("golden/{}", case.name))
    {
        if said.works && case.shows_effect(kind, leaf) {
            return Some(works(case));
        }
        if !said.works && !anew {
            return refused(case).or_else(|| row(cases, kind, leaf, None, anew));
        }
    }
    let effective = cases.iter().find(|case| case.shows_effect(kind, leaf));
    effective
        .map(works)
        .or_else(|| cases.iter().find_map(refused))
}

#[test]
fn every_field_has_a_row_and_every_row_holds() {
    let anew = env::var_os("UPDATE_CAPABILITIES").is_some();
    let path = repository().join("docs/capabilities.md");
    let written = fs::read_to_string(&path).unwrap_or_default();
    let said = parse(&written);
    let cases = Case::all();
    let (mut rows, mut missing) = (Rows::new(), Vec::new());
    for (section, leaf) in universe() {
        let before = said.get(section).and_then(|rows| rows.get(&leaf.path));
        match row(&cases, section, &leaf, before, anew) {
            Some(row) => drop(
                rows.entry(section.to_owned())
                    .or_default()
                    .insert(leaf.path, row),
            ),
            None => missing.push(format!("{section} {}", leaf.path)),
        }
    }
    for (section, named) in BY_NAME {
        let section = rows.entry(section.to_owned()).or_default();
        section.extend(named.iter().map(|(path, works, note, test)| {
            let row = Row {
                works: *works,
                test: test.to_string(),
                note: note.to_string(),
            };
            (path.to_string(), row)
        }));
    }
    assert!(
        missing.is_empty(),
        "no golden case shows what these fields do, nor that they are refused; write one:\n{}",
        missing.join("\n")
    );
    let kinds = WHOLE
        .map(Kind::as_str)
        .into_iter()
        .chain(CORE.iter().map(|(kind, _)| *kind));
    let by_name = BY_NAME.map(|(section, _)| section);
    let sections: Vec<&str> = kinds.chain(by_name).collect();
    let page = render(&sections, &rows);
    if anew {
        fs::write(&path, page).unwrap();
        return;
    }
    let changed: Vec<&str> = page
        .lines()
        .filter(|line| !written.contains(*line))
        .collect();
    assert!(
        page == written,
        "docs/capabilities.md does not say what is so; run `make capabilities`. Lines that change:\n{}",
        changed.join("\n")
    );
}

/// Whatever has an effect in a golden case is read, so it has a row.
#[test]
fn nothing_else_of_the_core_kinds_is_read() {
    let listed: BTreeSet<(&str, &str)> = CORE
        .iter()
        .flat_map(|(kind, paths)| paths.iter().map(|path| (*kind, *path)))
        .collect();
    let is_map = |path: &str| {
        ["labels", "annotations", "selector"]
            .iter()
            .any(|map| path.ends_with(map))
    };
    let mut unlisted = BTreeSet::new();
    for case in Case::all() {
        let mut others = BTreeSet::new();
        for object in &case.objects {
            let kind = object["kind"].as_str().unwrap_or_default();
            if !CORE.iter().any(|(core, _)| *core == kind) {
                continue;
            }
            let identity = ["apiVersion", "kind", "metadata.name", "metadata.namespace"];
            let leaves = places::leaves_of(object, is_map).into_iter();
            let leaves = leaves.filter(|path| {
                !listed.contains(&(kind, path.as_str())) && !identity.contains(&path.as_str())
            });
            others.extend(leaves.map(|path| (kind.to_owned(), path)));
        }
        if case.notices(&others) {
            unlisted.extend(
                others
                    .into_iter()
                    .filter(|one| case.notices(&[one.clone()].into())),
            );
        }
    }
    assert!(unlisted.is_empty(), "read, but not in CORE: {unlisted:#?}");
}

/// A test function that runs: it has the attribute and is not ignored; of the end-to-end suite, it is in the list of its file.
fn exists(test: &str) -> bool {
    let root = repository();
    if let Some(name) = test.strip_prefix("e2e/") {
        let files = fs::read_dir(root.join("tests/tests/e2e")).unwrap();
        return files.into_iter().any(|file| {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            let joined: String = text.split_whitespace().collect();
            joined.contains(&format!("test!({name},"))
        });
    }
    let Some((file, name)) = test.split_once("::") else {
        return false;
    };
    let text = fs::read_to_string(root.join(file)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let above = &lines[at.saturating_sub(3)..at];
        line.contains(&format!("fn {name}("))
            && above
                .iter()
                .any(|line| ["#[test]", "#[tokio::test]"].contains(line))
            && !above.iter().any(|line| line.starts_with("#[ignore"))
    })
}

#[test]
fn every_test_that_is_named_elsewhere_is_there() {
    let named = BY_NAME.iter().flat_map(|(_, named)| *named);
    let missing: Vec<&str> = named
        .map(|(.., test)| *test)
        .filter(|test| !exists(test))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(!exists("e2e/no_such_test"));
    assert!(!exists("local/src/workload/read/tests.rs::parse"));
}
