//! Which pods of a cluster are in the mesh, which should be and are not, and why.
//!
//! Pods and namespaces as JSON → a [`Standing`] each, by the webhook's own decision. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use weft_inject::names::{INJECTED, PROXY_CONTAINER, PROXY_VERSION, STATUS, excluded};
use weft_inject::{InjectSettings, Namespace, Outcome, inject};

/// What a pod is to the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has a proxy of this version.
    Meshed { version: String },
    /// It asked for a proxy, or its namespace did, and it has none.
    Unmeshed(Unmeshed),
    /// Nobody asked.
    Outside,
}

/// A pod that slipped through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Unmeshed {
    pub reason: String,
    /// Whether the same pod, made anew, would have a proxy.
    pub would_be: bool,
}

impl Standing {
    /// Of every pod that has not ended, in the order of `namespace/name`; none of `system` and kube-system.
    pub(crate) fn of_all<'a>(
        pods: &'a [Value],
        namespaces: &[Value],
        system: &str,
    ) -> BTreeMap<String, (&'a Value, Self)> {
        let settings: BTreeMap<&str, Namespace> = namespaces
            .iter()
            .filter_map(|one| Some((one["metadata"]["name"].as_str()?, namespace_settings(one))))
            .collect();
        let nothing = Namespace::default();
        living(pods, system)
            .map(|pod| {
                let of = pod["metadata"]["namespace"].as_str().unwrap_or_default();
                let standing = Self::of(pod, settings.get(of).unwrap_or(&nothing));
                (pod_name(pod), (pod, standing))
            })
            .collect()
    }

    fn of(pod: &Value, namespace: &Namespace) -> Self {
        if let Some(version) = proxy_version(pod) {
            return Self::Meshed {
                version: version.to_owned(),
            };
        }
        let unmeshed = |reason: String, would_be| Self::Unmeshed(Unmeshed { reason, would_be });
        match inject(pod, namespace, &InjectSettings::default()) {
            Outcome::Injected(_) => unmeshed(
                "it was made before its namespace was in the mesh, or past the webhook".to_owned(),
                true,
            ),
            Outcome::NotWanted { reason, warn: true } => unmeshed(reason, false),
            Outcome::NotWanted { warn: false, .. } => Self::Outside,
            Outcome::Refused(refusal) => unmeshed(refusal.to_string(), false),
        }
    }
}

/// A pod that has a proxy.
pub(crate) struct Meshed<'a> {
    /// `namespace/name`
    pub name: String,
    pub pod: &'a Value,
    /// The proxy's.
    pub version: &'a str,
}

/// Every pod that has a proxy and has not ended, in the order of their names.
pub(crate) fn meshed<'a>(pods: &'a [Value], system: &str) -> Vec<Meshed<'a>> {
    let meshed = living(pods, system).filter_map(|pod| {
        Some(Meshed {
            name: pod_name(pod),
            pod,
            version: proxy_version(pod)?,
        })
    });
    let mut meshed: Vec<_> = meshed.collect();
    meshed.sort_by(|a, b| a.name.cmp(&b.name));
    meshed
}

/// The pods that have not ended; none of `system` and kube-system.
fn living<'a>(pods: &'a [Value], system: &str) -> impl Iterator<Item = &'a Value> {
    pods.iter().filter(move |pod| {
        let phase = &pod["status"]["phase"];
        let namespace = &pod["metadata"]["namespace"];
        let ended = phase == "Succeeded" || phase == "Failed";
        !ended && !excluded(system).iter().any(|one| namespace == one)
    })
}

/// The version of the pod's proxy, if it has one.
fn proxy_version(pod: &Value) -> Option<&str> {
    let containers = pod["spec"]["initContainers"].as_array();
    let mut containers = containers.into_iter().flatten();
    let metadata = &pod["metadata"];
    let has_proxy = containers.any(|one| one["name"] == PROXY_CONTAINER)
        && metadata["annotations"][STATUS] == INJECTED;
    has_proxy.then(|| {
        metadata["labels"][PROXY_VERSION]
            .as_str()
            .unwrap_or("unknown")
    })
}

/// `namespace/name`
pub(crate) fn pod_name(pod: &Value) -> String {
    let part = |part: &str| pod["metadata"][part].as_str().unwrap_or_default();
    format!("{}/{}", part("namespace"), part("name"))
}

/// What a namespace says about its pods.
pub(crate) fn namespace_settings(object: &Value) -> Namespace {
    let map = |field: &str| {
        let map = object["metadata"][field].as_object();
        let entries = map.into_iter().flatten();
        let entries =
            entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        entries.collect()
    };
    Namespace {
        labels: map("labels"),
        annotations: map("annotations"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str) -> Value {
        json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"containers": [{"name": "it"}]},
            "status": {"phase": "Running"},
        })
    }

    #[test]
    fn who_should_have_a_proxy_and_has_none_is_known_with_the_reason() {
        let mut meshed = pod("shop", "meshed");
        meshed["metadata"]["annotations"] = json!({"mesh.weft.dev/status": "injected"});
        meshed["metadata"]["labels"] = json!({"mesh.weft.dev/proxy-version": "0.1.0"});
        meshed["spec"]["initContainers"] = json!([{"name": "weft-proxy"}]);
        let mut on_node = pod("shop", "on-node");
        on_node["spec"]["hostNetwork"] = true.into();
        let mut opted_out = pod("shop", "opted-out");
        opted_out["metadata"]["labels"] = json!({"mesh.weft.dev/inject": "disabled"});
        let mut done = pod("shop", "done");
        done["status"]["phase"] = "Succeeded".into();
        let pods = [
            meshed,
            on_node,
            opted_out,
            done,
            pod("shop", "old"),
            pod("bank", "one"),
            pod("weft-system", "cp"),
        ];
        let labels = json!({"mesh.weft.dev/inject": "enabled"});
        let namespaces = [
            json!({"metadata": {"name": "shop", "labels": labels}}),
            json!({"metadata": {"name": "bank"}}),
        ];
        let all = Standing::of_all(&pods, &namespaces, "weft-system");
        let standing = |name: &str| &all[name].1;
        assert_eq!(all.len(), 5, "{all:?}");
        assert_eq!(
            *standing("shop/meshed"),
            Standing::Meshed {
                version: "0.1.0".into()
            }
        );
        let [only] = &super::meshed(&pods, "weft-system")[..] else {
            panic!("one has a proxy");
        };
        assert_eq!((&*only.name, only.version), ("shop/meshed", "0.1.0"));
        assert_eq!(*standing("shop/opted-out"), Standing::Outside);
        assert_eq!(*standing("bank/one"), Standing::Outside);
        let unmeshed = |name| match standing(name) {
            Standing::Unmeshed(unmeshed) => unmeshed,
            other => panic!("{name}: {other:?}"),
        };
        assert!(unmeshed("shop/old").would_be);
        assert!(!unmeshed("shop/on-node").would_be);
        assert!(
            unmeshed("shop/on-node")
                .reason
                .starts_with("spec.hostNetwork: ")
        );
    }
}
