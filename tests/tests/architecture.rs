//! The crates and the edges between them are those of ARCHITECTURE.md; nobody depends on more than is written there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Folder, crate, and which of Weft's own crates it may use.
const ALLOWED: &[(&str, &str, &[&str])] = &[
    ("proto", "weft-proto", &[]),
    ("certs/id", "weft-identity", &[]),
    ("certs", "weft-certs", &["weft-identity"]),
    ("control-plane/api", "weft-api", &[]),
    ("control-plane/model", "weft-model", &["weft-identity"]),
    (
        "control-plane/source",
        "weft-source",
        &["weft-api", "weft-model"],
    ),
    ("control-plane/compile", "weft-compile", &["weft-model"]),
    (
        "control-plane/xds",
        "weft-xds",
        &["weft-compile", "weft-model", "weft-proto"],
    ),
    (
        "control-plane/app",
        "weft-control-plane",
        &[
            "weft-proto",
            "weft-identity",
            "weft-certs",
            "weft-api",
            "weft-inject",
            "weft-model",
            "weft-source",
            "weft-compile",
            "weft-xds",
        ],
    ),
    (
        "control-plane/inject",
        "weft-inject",
        &["weft-api", "weft-model"],
    ),
    (
        "control-plane/install",
        "weft-install",
        &["weft-api", "weft-inject"],
    ),
    ("proxy/config", "weft-proxy-config", &["weft-identity"]),
    (
        "proxy/xds",
        "weft-proxy-xds",
        &["weft-proxy-config", "weft-proto", "weft-certs"],
    ),
    (
        "proxy/telemetry",
        "weft-proxy-telemetry",
        &["weft-identity"],
    ),
    (
        "proxy/net",
        "weft-proxy-net",
        &["weft-proxy-config", "weft-proxy-telemetry", "weft-certs"],
    ),
    (
        "proxy/http",
        "weft-proxy-http",
        &[
            "weft-proxy-net",
            "weft-proxy-config",
            "weft-proxy-telemetry",
        ],
    ),
    (
        "proxy/app",
        "weft-proxy",
        &[
            "weft-proxy-config",
            "weft-proxy-xds",
            "weft-proxy-telemetry",
            "weft-proxy-net",
            "weft-proxy-http",
            "weft-proto",
            "weft-certs",
        ],
    ),
    (
        "cli",
        "weft",
        &[
            "weft-api",
            "weft-inject",
            "weft-install",
            "weft-source",
            "weft-model",
            "weft-compile",
            "weft-xds",
            "weft-proxy-config",
            "weft-proxy-xds",
            "weft-proto",
            "weft-certs",
            "weft-local",
        ],
    ),
    (
        "local",
        "weft-local",
        &["weft-api", "weft-inject", "weft-source"],
    ),
];

/// Crates that may use any other.
const FREE: &[(&str, &str)] = &[("tests", "weft-tests"), ("bench", "weft-bench")];

/// Names of identities are everybody's vocabulary: who may use anything that speaks of identity may use it directly.
const VOCABULARY: &str = "weft-identity";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
        .to_owned()
}

fn metadata() -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).expect("cargo metadata prints JSON")
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} is a string in {value}"))
}

fn packages(metadata: &Value) -> &Vec<Value> {
    metadata["packages"].as_array().expect("packages")
}

#[test]
fn crates_lie_where_the_map_says() {
    let metadata = metadata();
    let found: BTreeMap<String, String> = packages(&metadata)
        .iter()
        .map(|package| {
            let manifest = Path::new(text(package, "manifest_path"));
            let folder = manifest
                .parent()
                .expect("a folder")
                .strip_prefix(root())
                .expect("inside the workspace");
            (
                text(package, "name").to_owned(),
                folder.display().to_string(),
            )
        })
        .collect();
    let expected: BTreeMap<String, String> = ALLOWED
        .iter()
        .map(|(folder, name, _)| (*name, *folder))
        .chain(FREE.iter().map(|(folder, name)| (*name, *folder)))
        .map(|(name, folder)| (name.to_owned(), folder.to_owned()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn nobody_depends_on_more_than_the_map_allows() {
    let metadata = metadata();
    let own: BTreeSet<&str> = packages(&metadata)
        .iter()
        .map(|package| text(package, "name"))
        .collect();
    let mut wrong = Vec::new();
    for (_, name, allowed) in ALLOWED {
        let package = packages(&metadata)
            .iter()
            .find(|package| text(package, "name") == *name)
            .expect("listed");
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let target = text(dependency, "name");
            // Dev-dependencies make tests, not architecture.
            let normal = dependency["kind"].is_null() || dependency["kind"] == "build";
            let free = target == VOCABULARY && !allowed.is_empty();
            if normal && own.contains(target) && !allowed.contains(&target) && !free {
                wrong.push(format!("{name} -> {target}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "edges that the architecture does not have: {wrong:#?}"
    );
}

#[test]
fn pure_crates_stay_pure() {
    let metadata = metadata();
    for (name, banned) in [
        (
            "weft-model",
            &["tokio", "kube", "k8s-openapi", "prost", "tonic"][..],
        ),
        (
            "weft-compile",
            &["tokio", "kube", "k8s-openapi", "prost", "tonic", "rand"],
        ),
        (
            "weft-inject",
            &["tokio", "kube", "k8s-openapi", "rand", "axum", "hyper"],
        ),
        (
            "weft-install",
            &["tokio", "kube", "k8s-openapi", "rand", "axum", "hyper"],
        ),
        ("weft-identity", &["rustls", "rcgen", "aws-lc-rs", "tokio"]),
        ("weft-proxy-config", &["hyper", "prost", "tonic", "rustls"]),
        ("weft-proto", &["tokio", "serde"]),
    ] {
        let package = packages(&metadata)
            .iter()
            .find(|package| text(package, "name") == name)
            .expect("listed");
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let target = text(dependency, "name");
            let dev = dependency["kind"] == "dev";
            assert!(
                dev || !banned.contains(&target),
                "{name} must not use {target}"
            );
        }
    }
}

#[test]
fn no_crate_is_a_drawer_for_everything() {
    let metadata = metadata();
    for package in packages(&metadata) {
        for part in text(package, "name").split('-') {
            assert!(
                !["common", "util", "utils", "core", "helpers", "misc"].contains(&part),
                "{}",
                package["name"]
            );
        }
    }
}

#[test]
fn the_build_has_one_crypto_provider() {
    let out = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--workspace",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--offline",
            "--locked",
        ])
        .current_dir(root())
        .output()
        .expect("cargo tree runs");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let tree = String::from_utf8(out.stdout).expect("UTF-8");
    let names: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(names.contains("aws-lc-rs"));
    for other in ["ring", "openssl", "openssl-sys", "native-tls"] {
        assert!(!names.contains(other), "{other} is in the build");
    }
}
