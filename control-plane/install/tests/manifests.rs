//! The manifests as people get them, and every field of them one that Kubernetes has.
//! `WEFT_WRITE_GOLDEN=1 cargo test -p weft-install --test manifests` writes the files anew.

use std::fs;
use std::path::Path;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_inject::InjectSettings;
use weft_install::{Values, objects, to_yaml};

fn render(assignments: &[&str]) -> Vec<Value> {
    let values = Values::with(assignments.iter().copied()).expect("values");
    objects(&values).expect("rendered")
}

/// Account and rules have a file of their own to be reviewed in: manifests/install/rbac.yaml.
fn is_of_rules(object: &Value) -> bool {
    object["kind"] == "ServiceAccount" || object["apiVersion"] == "rbac.authorization.k8s.io/v1"
}

fn assert_golden(name: &str, assignments: &[&str]) {
    let mut objects = render(assignments);
    objects.retain(|object| !is_of_rules(object));
    let text = to_yaml(&objects).expect("YAML");
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("WEFT_WRITE_GOLDEN").is_some() {
        fs::write(&path, &text).expect("written");
    }
    let golden = fs::read_to_string(&path).expect("the file is there");
    assert!(
        text == golden,
        "{name} differs; write it anew and look at the difference:\n{text}"
    );
}

#[test]
fn the_manifests_are_what_is_reviewed() {
    assert_golden("default.yaml", &["crds=false"]);
    assert_golden(
        "chosen.yaml",
        &[
            "crds=false",
            "namespace=mesh",
            "image.registry=registry.example/weft",
            "image.tag=1.2.3",
            "image.pullPolicy=Always",
            "controlPlane.replicas=1",
            "proxy.cpuLimit=1",
            "proxy.memoryLimit=",
            "webhook.failurePolicy=Ignore",
            "webhook.apiServerCidrs=10.0.0.1/32,fd00::1/128",
        ],
    );
}

/// What the type does not give back as it was is misspelt or in the wrong place.
fn check<T: Serialize + DeserializeOwned>(object: &Value) {
    let typed: T = serde_json::from_value(object.clone()).expect("of its type");
    assert_eq!(&serde_json::to_value(typed).expect("JSON"), object);
}

#[test]
fn every_field_exists() {
    for object in render(&["webhook.apiServerCidrs=10.0.0.1/32"]) {
        match object["kind"].as_str().expect("a kind") {
            "Namespace" => check::<Namespace>(&object),
            "CustomResourceDefinition" => check::<CustomResourceDefinition>(&object),
            "ServiceAccount" => check::<ServiceAccount>(&object),
            "ClusterRole" => check::<ClusterRole>(&object),
            "ClusterRoleBinding" => check::<ClusterRoleBinding>(&object),
            "Role" => check::<Role>(&object),
            "RoleBinding" => check::<RoleBinding>(&object),
            "Service" => check::<Service>(&object),
            "Deployment" => check::<Deployment>(&object),
            "PodDisruptionBudget" => check::<PodDisruptionBudget>(&object),
            "NetworkPolicy" => check::<NetworkPolicy>(&object),
            "MutatingWebhookConfiguration" => check::<MutatingWebhookConfiguration>(&object),
            other => panic!("{other} is not checked"),
        }
    }
}

#[test]
fn no_manifest_has_a_bundle() {
    let text = to_yaml(&render(&[])).expect("YAML");
    assert!(!text.contains("caBundle") && !text.contains("BEGIN"));
}

#[test]
fn everything_lies_in_the_namespace_that_was_asked_for() {
    let text = to_yaml(&render(&["namespace=mesh", "crds=false"])).expect("YAML");
    assert!(!text.contains("weft-system"), "{text}");
}

#[test]
fn without_choices_a_mesh_injects_as_weft_inject_does() {
    let values = Values::with([]).expect("values");
    assert_eq!(values.inject_settings(), InjectSettings::default());
    let deployment = render(&[]);
    let deployment = deployment
        .iter()
        .find(|one| one["kind"] == "Deployment")
        .expect("there");
    let env = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
    let env = env.as_array().expect("a list").iter();
    let told = {
        let mut env = env;
        env.find(|one| one["name"] == "WEFT_INJECT")
    }
    .expect("there");
    let told = told["value"].as_str().expect("text").replace("$$", "$");
    let told: InjectSettings = serde_json::from_str(&told).expect("settings");
    assert_eq!(told, InjectSettings::default());
}

#[test]
fn a_wrong_assignment_is_named_with_what_could_be_meant() {
    for (assignment, expected) in [
        ("replicas", r#""replicas" is not KEY=VALUE"#),
        (
            "replicas=2",
            r#"there is no value "replicas"; did you mean controlPlane.replicas?"#,
        ),
        (
            "controlPlane.replica=2",
            "did you mean controlPlane.replicas?",
        ),
        ("controlPlane=2", "there are namespace, createNamespace,"),
        (
            "controlPlane.replicas=0",
            r#"controlPlane.replicas: "0" is not a number above 0"#,
        ),
        ("crds=yes", r#"crds: "yes" is not true or false"#),
        ("webhook.failurePolicy=fail", "is not Fail or Ignore"),
        ("webhook.timeoutSeconds=31", "is not a number from 1 to 30"),
        ("webhook.apiServerCidrs=10.0.0.1", "is not a list of ranges"),
        ("proxy.memoryLimit=1 GB", "is not a quantity"),
        ("controlPlane.memoryLimit=", "is not a quantity"),
        ("namespace=Weft", "is not a name of a namespace"),
        ("image.tag=a b", "is not a tag"),
        ("controlPlane.leafLifetime=1d", "is not a duration"),
        ("proxy.log=", "is not a text"),
    ] {
        let error = Values::with([assignment])
            .expect_err(assignment)
            .to_string();
        assert!(error.contains(expected), "{assignment}: {error}");
    }
}
