//! Applications: pods that slipped through, and workloads that cannot have a proxy as they are written.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weft_inject::names::excluded;
use weft_inject::{InjectSettings, Namespace, Outcome, inject};

use super::catalogue::Fault;
use super::facts::{Facts, named, text};
use crate::cluster::{Standing, namespace_settings};

pub(crate) fn unmeshed(facts: &Facts) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, (pod, standing)) in Standing::of_all(&facts.pods, &facts.namespaces, &facts.system) {
        let Standing::Unmeshed(why) = standing else {
            continue;
        };
        // What cannot have one, and is in the namespace by chance, is no fault of its own.
        let fault = if why.would_be {
            Fault::error
        } else {
            Fault::warning
        };
        let hint = if why.would_be {
            restart(pod)
        } else {
            "it cannot have one; label it mesh.weft.dev/inject: disabled if that is meant, so that it is not told of again".to_owned()
        };
        faults.push(fault(
            format!("pod {name} has no proxy: {}", why.reason),
            hint,
        ));
    }
    faults
}

/// How to get a pod made anew.
pub(super) fn restart(pod: &Value) -> String {
    let (namespace, owner) = (
        text(&pod["metadata"]["namespace"]),
        &pod["metadata"]["ownerReferences"][0],
    );
    let name = text(&owner["name"]);
    match text(&owner["kind"]) {
        "ReplicaSet" => {
            let hash = text(&pod["metadata"]["labels"]["pod-template-hash"]);
            let deployment = name
                .strip_suffix(hash)
                .and_then(|name| name.strip_suffix('-'))
                .unwrap_or(name);
            format!("kubectl -n {namespace} rollout restart deployment/{deployment}")
        }
        kind @ ("StatefulSet" | "DaemonSet") => {
            format!(
                "kubectl -n {namespace} rollout restart {}/{name}",
                kind.to_lowercase()
            )
        }
        _ => format!(
            "delete it and make it anew: kubectl -n {namespace} delete pod {}",
            text(&pod["metadata"]["name"])
        ),
    }
}

/// What the webhook would refuse, named at the workload: its pods never come into being.
pub(crate) fn conflicts(facts: &Facts) -> Vec<Fault> {
    let namespaces: BTreeMap<&str, Namespace> = facts
        .namespaces
        .iter()
        .map(|one| (text(&one["metadata"]["name"]), namespace_settings(one)))
        .collect();
    let mut faults = Vec::new();
    for workload in &facts.workloads {
        let of = text(&workload["metadata"]["namespace"]);
        let Some(namespace) = namespaces
            .get(of)
            .filter(|_| !excluded(&facts.system).contains(&of))
        else {
            continue;
        };
        if let Outcome::Refused(refusal) =
            inject(&pod_of(workload), namespace, &InjectSettings::default())
        {
            faults.push(Fault::error(
                format!("{} gets no pods: {refusal}", named(workload)),
                "change that field, or keep the workload out of the mesh by the label mesh.weft.dev/inject: disabled on its pods",
            ));
        }
    }
    faults
}

/// The pod that a workload makes.
fn pod_of(workload: &Value) -> Value {
    let spec = &workload["spec"];
    let template = match text(&workload["kind"]) {
        "CronJob" => &spec["jobTemplate"]["spec"]["template"],
        _ => &spec["template"],
    };
    json!({"metadata": template["metadata"], "spec": template["spec"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let labels = json!({"mesh.weft.dev/inject": "enabled"});
        Facts {
            namespaces: vec![
                json!({"metadata": {"name": "shop", "labels": labels}}),
                json!({"metadata": {"name": "bank"}}),
            ],
            ..Facts::default()
        }
    }

    #[test]
    fn a_pod_without_a_proxy_is_named_with_the_command_that_helps() {
        let pod = json!({
            "metadata": {
                "namespace": "shop", "name": "web-5d-x", "labels": {"pod-template-hash": "5d"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web-5d"}],
            },
            "spec": {"containers": [{"name": "web"}]},
        });
        let facts = Facts {
            pods: vec![pod],
            ..facts()
        };
        let found = unmeshed(&facts).remove(0);
        assert!(
            found
                .message
                .starts_with("pod shop/web-5d-x has no proxy: "),
            "{found:?}"
        );
        assert_eq!(found.hint, "kubectl -n shop rollout restart deployment/web");
    }

    #[test]
    fn a_port_of_the_proxy_is_found_in_the_workload_that_wants_it() {
        let workload = |namespace: &str, port: u16| {
            let container = json!({"name": "web", "ports": [{"containerPort": port}]});
            json!({
                "kind": "Deployment", "metadata": {"namespace": namespace, "name": "web"},
                "spec": {"template": {"spec": {"containers": [container]}}},
            })
        };
        let all = [
            workload("shop", 15006),
            workload("shop", 80),
            workload("bank", 15006),
        ];
        let found = conflicts(&Facts {
            workloads: all.to_vec(),
            ..facts()
        });
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].message.starts_with("Deployment shop/web gets no pods: spec.containers[web].ports[0].containerPort: 15006 is a port of the proxy"), "{found:?}");
    }
}
