//! Workloads in, workloads with their proxies out. `golden/NAME.yaml` is what a person writes, and
//! `golden/NAME.injected.yaml` what comes of it; read a pair as documentation.
//! `WEFT_WRITE_GOLDEN=1 cargo test -p weft-inject --test golden` writes the second anew.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;
use weft_inject::{InjectSettings, Namespace, Outcome, inject, uninject, workload};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("the file can be read");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What Kubernetes' own type does not give back as it was is misspelt, or in the wrong place.
fn check_fields(object: &Value) {
    let way = workload::way_to_pod(object).expect("a workload");
    let pod = way.iter().fold(object, |at, step| &at[*step]);
    let typed: PodTemplateSpec = serde_json::from_value(serde_json::json!({
        "metadata": pod["metadata"],
        "spec": pod["spec"],
    }))
    .expect("a pod");
    let back = serde_json::to_value(typed).expect("JSON");
    assert_eq!(back["spec"], pod["spec"]);
    assert_eq!(back["metadata"], pod["metadata"]);
}

fn injected(object: &Value) -> Value {
    let mut object = object.clone();
    workload::change_pod(&mut object, |pod| {
        match inject(pod, &Namespace::in_mesh(), &InjectSettings::default()) {
            Outcome::Injected(injected) => Ok(Some(injected.pod)),
            other => panic!("{other:?}"),
        }
    })
    .expect("the pod can be injected");
    object
}

#[test]
fn every_workload_gets_its_proxy_once() {
    let mut inputs: Vec<PathBuf> = fs::read_dir(folder())
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.to_string_lossy().ends_with(".injected.yaml"))
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 5, "{inputs:?}");
    for path in inputs {
        let object = read(&path);
        let result = injected(&object);
        let golden = path.with_extension("injected.yaml");
        if std::env::var_os("WEFT_WRITE_GOLDEN").is_some() {
            let text = serde_saphyr::to_string(&result).expect("YAML");
            fs::write(&golden, text).expect("written");
        }
        assert_eq!(result, read(&golden), "{}", path.display());
        check_fields(&result);
        assert_eq!(injected(&result), result, "{}: twice", path.display());
        let mut back = result.clone();
        workload::change_pod(&mut back, |pod| uninject(pod).map(Some)).expect("the way back");
        assert_eq!(
            injected(&back),
            result,
            "{}: there and back",
            path.display()
        );
    }
}
