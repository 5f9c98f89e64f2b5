//! Whether a pod gets a proxy: who asked for it, and what stands against it.

use std::collections::BTreeMap;

use serde_json::Value;
use weft_model::membership::{Asked, MIRROR, asked_by_namespace, asked_by_pod};

use crate::Refusal;
use crate::names::{self, DISABLED, ENABLED, INJECT, PROXY_PORTS, PROXY_UID};
use crate::pod::{INIT_CONTAINERS, LISTS, Pod, is_own, path};

/// What the decision needs to know of the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its labels; [`INJECT`] opts all its pods in.
    pub labels: BTreeMap<String, String>,
    /// Its annotations: overrides for the pods that have none of their own.
    pub annotations: BTreeMap<String, String>,
}

impl Namespace {
    /// One that is in the mesh.
    pub fn in_mesh() -> Self {
        Self {
            labels: BTreeMap::from([(INJECT.to_owned(), ENABLED.to_owned())]),
            annotations: BTreeMap::new(),
        }
    }
}

pub(crate) enum Decision {
    Yes,
    No { reason: String, warn: bool },
}

pub(crate) fn decide(pod: &Pod, namespace: &Namespace) -> Result<Decision, Refusal> {
    let no = |reason: &str| Decision::No {
        reason: reason.to_owned(),
        warn: false,
    };
    let of_namespace = namespace.labels.get(INJECT).map(String::as_str);
    let asked = asked(pod.label(INJECT), pod.annotation(INJECT), of_namespace)?;
    match asked {
        Asked::ByPod | Asked::ByNamespace => {}
        Asked::OptedOut => return Ok(no("the pod opted out")),
        Asked::ByNobody => return Ok(no("neither the pod nor its namespace asked for a proxy")),
    }
    if pod.annotation(MIRROR).is_some() {
        return Ok(no("the kubelet runs it from a file of its node"));
    }
    if let Err(impossible) = can_have_a_proxy(pod) {
        return match asked {
            Asked::ByPod => Err(impossible),
            _ => Ok(Decision::No {
                reason: impossible.to_string(),
                warn: true,
            }),
        };
    }
    for (field, container) in pod.containers().filter(|(_, item)| !is_own(item)) {
        refuse_user(
            &format!("{field}.securityContext"),
            &container["securityContext"],
        )?;
        refuse_ports(&field, container)?;
    }
    refuse_user("spec.securityContext", pod.spec("securityContext"))?;
    Ok(Decision::Yes)
}

/// Who asks for a pod's proxy, by the values of [`INJECT`] in its labels, in its annotations and in its
/// namespace's labels.
///
/// # Errors
/// The pod's is neither [`ENABLED`] nor [`DISABLED`].
pub fn asked(
    label: Option<&str>,
    annotation: Option<&str>,
    of_namespace: Option<&str>,
) -> Result<Asked, Refusal> {
    let by_pod = asked_by_pod(label, annotation).map_err(|unknown| {
        Refusal::new(
            format!("metadata.{}[\"{INJECT}\"]", unknown.map),
            format!("{:?} is neither {ENABLED} nor {DISABLED}", unknown.value),
        )
    })?;
    Ok(Asked::of(by_pod, asked_by_namespace(of_namespace)))
}

/// Pods that other namespaces' tools put everywhere (agents of the node) are of these kinds: a
/// namespace that is in the mesh does not keep them out.
fn can_have_a_proxy(pod: &Pod) -> Result<(), Refusal> {
    if pod.spec("hostNetwork") == true {
        return Err(Refusal::new(
            "spec.hostNetwork",
            "a pod in its node's network cannot have a proxy: all traffic of the node would be led through it",
        ));
    }
    if pod.spec("os")["name"] == "windows" {
        return Err(Refusal::new(
            "spec.os.name",
            "there is no proxy for Windows",
        ));
    }
    Ok(())
}

fn refuse_user(field: &str, context: &Value) -> Result<(), Refusal> {
    if context["runAsUser"] == PROXY_UID {
        return Err(Refusal::new(
            format!("{field}.runAsUser"),
            format!(
                "{PROXY_UID} is the proxy's own user, whose connections are not led through the proxy; choose another"
            ),
        ));
    }
    Ok(())
}

fn refuse_ports(field: &str, container: &Value) -> Result<(), Refusal> {
    for (index, port) in container["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let number = port["containerPort"].as_u64();
        if let Some(taken) = PROXY_PORTS
            .iter()
            .find(|own| number == Some(u64::from(**own)))
        {
            return Err(Refusal::new(
                format!("{field}.ports[{index}].containerPort"),
                format!("{taken} is a port of the proxy; choose another"),
            ));
        }
    }
    Ok(())
}

/// Names of ours that the pod uses for something else.
pub(crate) fn refuse_own_names(pod: &Pod) -> Result<(), Refusal> {
    let volumes = [
        names::STATE_VOLUME,
        names::TOKEN_VOLUME,
        names::TRUST_VOLUME,
    ];
    let volumes = volumes.map(|name| ("volumes", name));
    let containers = [names::INIT_CONTAINER, names::PROXY_CONTAINER];
    let containers = containers.map(|name| LISTS.map(|list| (list, name)));
    for (list, name) in volumes.into_iter().chain(containers.into_iter().flatten()) {
        if let Some(item) = pod.named(list, name) {
            return Err(Refusal::new(
                path(list, item),
                "this name is the mesh's own; choose another",
            ));
        }
    }
    Ok(())
}

/// What does not keep a pod from having a proxy, and yet is likely a mistake.
pub(crate) fn warnings(pod: &Pod) -> Vec<String> {
    let mut warnings = Vec::new();
    if matches!(pod.spec("dnsPolicy").as_str(), Some("Default" | "None")) {
        warnings.push(
            "spec.dnsPolicy: the proxy finds the control plane by its name in the cluster, which this policy may not resolve"
                .to_owned(),
        );
    }
    let others_first = pod.spec(INIT_CONTAINERS).as_array().into_iter().flatten();
    let opaque = others_first
        .filter(|item| !is_own(item) && item["restartPolicy"] != "Always")
        .filter(|item| {
            item["securityContext"]["capabilities"]["add"]
                .as_array()
                .is_some_and(|added| added.iter().any(|one| one == "NET_ADMIN"))
        });
    warnings.extend(opaque.map(|item| {
        format!(
            "{}: it may change the pod's firewall (NET_ADMIN) and so lead traffic past the proxy",
            path(INIT_CONTAINERS, item)
        )
    }));
    warnings
}
