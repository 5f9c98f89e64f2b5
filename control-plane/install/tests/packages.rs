//! The chart and the base for kustomize lie in `manifests/` as they are made from the one source; that Helm and kustomize
//! make of them what `weft install` prints is shown by the cluster suite.
//! `WEFT_WRITE_GOLDEN=1 cargo test -p weft-install` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weft_install::{Values, chart, kustomization};

fn manifests(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../manifests")
        .join(folder)
}

fn assert_written(folder: &str, files: &BTreeMap<String, String>) {
    for (path, text) in files {
        let path = manifests(folder).join(path);
        if std::env::var_os("WEFT_WRITE_GOLDEN").is_some() {
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(&path, text).expect("written");
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == *text,
            "{} is not what is made now: WEFT_WRITE_GOLDEN=1 cargo test -p weft-install writes it; look at the difference",
            path.display()
        );
    }
}

#[test]
fn the_chart_is_as_it_is_made() {
    assert_written("chart", &chart().expect("made"));
}

#[test]
fn the_base_for_kustomize_is_as_it_is_made() {
    assert_written("kustomize", &kustomization().expect("made"));
}

#[test]
fn the_schema_knows_every_value() {
    let files = chart().expect("made");
    let schema: Value = serde_json::from_str(&files["values.schema.json"]).expect("JSON");
    let defaults = serde_json::to_value(Values::default()).expect("JSON");
    let of = |properties: &Value, group: &str| -> Vec<String> {
        let properties = properties["properties"].as_object();
        let properties = properties.unwrap_or_else(|| panic!("{group} has none"));
        let mut keys: Vec<String> = properties
            .keys()
            .filter(|key| *key != "global")
            .cloned()
            .collect();
        keys.sort();
        keys
    };
    let keys = |value: &Value| {
        let mut keys: Vec<String> = value
            .as_object()
            .expect("a group")
            .keys()
            .cloned()
            .collect();
        keys.sort();
        keys
    };
    assert_eq!(of(&schema, "values"), keys(&defaults));
    for (group, name) in [
        ("image", "Image"),
        ("controlPlane", "ControlPlane"),
        ("proxy", "Proxy"),
        ("webhook", "Webhook"),
    ] {
        let definition = &schema["$defs"][name];
        assert_eq!(of(definition, group), keys(&defaults[group]));
        assert_eq!(definition["additionalProperties"], false, "{group}");
    }
}
