//! What the pages say must be so: their YAML is valid, and every flag is explained.

use std::fs;
use std::path::{Path, PathBuf};

use weft_compile::Settings;
use weft_model::Severity;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README.md and docs/*.md.
fn pages() -> Vec<(String, String)> {
    let docs = fs::read_dir(repository().join("docs")).unwrap();
    let mut paths: Vec<PathBuf> = docs.map(|entry| entry.unwrap().path()).collect();
    paths.push(repository().join("README.md"));
    paths.retain(|path| path.extension().is_some_and(|end| end == "md"));
    let page = |path: PathBuf| {
        (
            path.display().to_string(),
            fs::read_to_string(&path).unwrap(),
        )
    };
    paths.into_iter().map(page).collect()
}

/// The indented blocks of a page that hold objects, without the shell around them.
fn objects(page: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in page.lines() {
        match line.strip_prefix("    ") {
            Some("YAML") | None => blocks.push(String::new()),
            Some(code) => {
                let block = blocks.last_mut().unwrap();
                if code.starts_with("apiVersion:") || !block.is_empty() {
                    *block += &format!("{code}\n");
                }
            }
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

#[test]
fn the_yaml_on_the_pages_is_valid() {
    let mut seen = 0;
    for (name, page) in pages() {
        for yaml in objects(&page) {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("page.yaml");
            fs::write(&file, &yaml).unwrap();
            let loaded = weft_source::load(&[file]);
            let (_, findings) = weft_compile::compile(Settings::default(), &loaded.world);
            let compiled = findings
                .iter()
                .map(|finding| loaded.locator.locate(finding));
            // An example is a part of a mesh: what it refers to is elsewhere.
            let wrong: Vec<_> = loaded
                .diagnostics
                .iter()
                .cloned()
                .chain(compiled)
                .filter(|one| one.severity == Severity::Error && !one.reason.is_missing_reference())
                .map(|one| one.to_string())
                .collect();
            assert!(wrong.is_empty(), "{name}: {wrong:#?}\n{yaml}");
            seen += loaded.world.objects().count();
        }
    }
    assert!(seen >= 8, "{seen} objects found");
}

#[test]
fn every_flag_is_explained() {
    let page = fs::read_to_string(repository().join("docs/debug.md")).unwrap();
    for flag in weft_proxy_telemetry::Flag::ALL {
        let text = format!("`{flag}`");
        assert!(
            page.contains(&text),
            "docs/debug.md does not explain {text}"
        );
    }
}
