//! `weft validate` as people and scripts call it: what it prints, and how it ends.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}, annotations: {mesh.weft.dev/status: injected}}
spec: {containers: [{name: app, image: app}]}
";

/// A route of `shop/web` to a service that is somewhere else.
const ROUTE_ELSEWHERE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: \"\", kind: Service, name: web}]
  rules:
  - backendRefs: [{name: elsewhere, port: 80}]
";

const MISSPELT: &str = "\
apiVersion: mesh.weft.dev/v1alpha1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec:
  mtls: {mode: STRICT}
  selctor: {matchLabels: {app: web}}
";

/// An annotation nobody reads is no error; a kind of somebody else's is a warning.
const FOREIGN: &str = "\
apiVersion: example.com/v1
kind: Gadget
metadata: {name: a, namespace: shop}
";

/// A route of another controller's Gateway, with a field and a kind of match that this mesh does not do.
const OF_OTHERS: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: edge}
spec: {controllerName: example.com/gateways}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: edge, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
  - matches: [{path: {type: RegularExpression, value: /v1/.*}}]
    sessionPersistence: {sessionName: basket}
    backendRefs: [{name: elsewhere, port: 80}]
";

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// `weft validate FOLDER FLAGS`.
    fn validate(&self, flags: &[&str]) -> (bool, String) {
        let path = self.path().to_str().unwrap();
        let output = weft(&[&["validate", path], flags].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), text.replace(path, "FOLDER"))
    }

    fn json(&self, flags: &[&str]) -> (bool, Value) {
        let (good, text) = self.validate(&[flags, &["-o", "json"]].concat());
        (good, serde_json::from_str(&text).unwrap())
    }
}

fn weft(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.args(arguments).output().unwrap()
}

#[test]
fn what_is_right_passes() {
    let folder = Folder::with(&[("web.yaml", SERVICE)]);
    let expected = "2 objects of the mesh: 0 errors, 0 warnings\n".to_owned();
    assert_eq!(folder.validate(&[]), (true, expected.clone()));
    assert_eq!(folder.validate(&["--strict"]), (true, expected));
    let (good, json) = folder.json(&[]);
    assert!(good);
    assert_eq!(
        (&json["valid"], &json["objects"]),
        (&true.into(), &2.into())
    );
    assert_eq!(json["findings"], Value::Array(Vec::new()));
}

#[test]
fn a_fault_is_named_by_file_line_object_and_field() {
    let folder = Folder::with(&[("web.yaml", SERVICE), ("strict.yaml", MISSPELT)]);
    let (good, text) = folder.validate(&[]);
    assert!(!good);
    let expected = "FOLDER/strict.yaml:6: PeerAuthentication shop/strict: spec.selctor";
    assert!(text.contains(expected), "{text}");
    let (good, json) = folder.json(&[]);
    assert!(!good);
    assert_eq!(json["valid"], false);
    let findings = json["findings"].as_array().unwrap();
    let at_field = |one: &&Value| one["field"] == "spec.selctor";
    let finding = findings.iter().find(at_field).unwrap();
    assert_eq!(
        (&finding["line"], &finding["severity"]),
        (&6.into(), &"error".into())
    );
}

#[test]
fn a_reference_to_elsewhere_is_an_error_unless_allowed() {
    let folder = Folder::with(&[("web.yaml", SERVICE), ("route.yaml", ROUTE_ELSEWHERE)]);
    let (good, text) = folder.validate(&[]);
    assert!(!good);
    assert!(
        text.contains("FOLDER/route.yaml:7: HTTPRoute shop/web: "),
        "{text}"
    );
    assert!(text.contains("elsewhere"), "{text}");
    let (good, text) = folder.validate(&["--allow-missing-refs"]);
    assert!(good, "{text}");
    assert!(text.contains("(warning)\n"), "{text}");
    assert!(!folder.validate(&["--allow-missing-refs", "--strict"]).0);
}

#[test]
fn warnings_count_when_strict() {
    let folder = Folder::with(&[("web.yaml", SERVICE), ("gadget.yaml", FOREIGN)]);
    let (good, json) = folder.json(&[]);
    assert_eq!(
        (good, &json["errors"], &json["warnings"]),
        (true, &0.into(), &1.into())
    );
    let (good, json) = folder.json(&["--strict"]);
    assert_eq!(
        (good, &json["valid"], &json["errors"]),
        (false, &false.into(), &0.into())
    );
}

#[test]
fn one_bad_file_hides_no_other_fault() {
    let files = [
        ("a.yaml", "kind: [unclosed"),
        ("strict.yaml", MISSPELT),
        ("web.yaml", SERVICE),
    ];
    let (good, text) = Folder::with(&files).validate(&[]);
    assert!(!good);
    assert!(text.contains("FOLDER/a.yaml"), "{text}");
    assert!(text.contains("FOLDER/strict.yaml:6"), "{text}");
    assert!(
        text.ends_with("3 objects of the mesh: 3 errors, 0 warnings\n"),
        "{text}"
    );
}

#[test]
fn what_is_not_there_is_said_on_standard_error() {
    let output = weft(&["validate", "/no/such/folder"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("weft: /no/such/folder does not exist"),
        "{text}"
    );
    assert_eq!(weft(&["validate"]).status.code(), Some(2));
    let (good, text) = Folder::with(&[]).validate(&[]);
    assert!(good);
    assert!(text.starts_with("no objects of the mesh here"), "{text}");
}

#[test]
fn what_another_controllers_gateway_does_is_not_judged() {
    let folder = Folder::with(&[("routes.yaml", OF_OTHERS)]);
    let (good, said) = folder.validate(&["--strict"]);
    assert!(good, "{said}");
    // The same route of a Service is this mesh's.
    let parent = "{group: \"\", kind: Service, name: web}";
    let ours = OF_OTHERS.replace("[{name: edge}]", &format!("[{parent}]"));
    let folder = Folder::with(&[("routes.yaml", &ours), ("service.yaml", SERVICE)]);
    let (good, said) = folder.validate(&[]);
    assert!(!good && said.contains("sessionPersistence"), "{said}");
}
