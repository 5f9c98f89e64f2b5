//! Who is in the mesh: what a pod and its namespace say of a sidecar, and whose pods nobody asks about.
//!
//! Owns the words and the rule, by which injection decides, and by which everything else names the pods
//! that should have a sidecar and have none. What keeps a pod from having one is injection's own.

/// Label of a namespace, label or annotation of a pod: [`ENABLED`] or [`DISABLED`].
pub const INJECT: &str = "mesh.weft.dev/inject";
/// Value of [`INJECT`] that asks for a sidecar.
pub const ENABLED: &str = "enabled";
/// Value of [`INJECT`] that keeps one out of a pod.
pub const DISABLED: &str = "disabled";

/// Annotation of a pod that has its sidecar; its value is [`INJECTED`].
pub const STATUS: &str = "mesh.weft.dev/status";
/// Value of [`STATUS`].
pub const INJECTED: &str = "injected";

/// The kubelet's annotation of a pod that it runs from a file of its node: no webhook is shown it.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Namespaces whose pods are shown to no webhook, where the mesh's own is `system`.
pub fn excluded(system: &str) -> [&str; 2] {
    ["kube-system", system]
}

/// A value of [`INJECT`] that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownValue<'a> {
    /// Where it stands: `labels` or `annotations`.
    pub map: &'static str,
    /// What stands there.
    pub value: &'a str,
}

/// What a pod says itself, by its label and its annotation [`INJECT`]. The label is what the API server
/// selects pods by, so it comes first.
///
/// # Errors
/// It says something that means nothing.
pub fn asked_by_pod<'a>(
    label: Option<&'a str>,
    annotation: Option<&'a str>,
) -> Result<Option<bool>, UnknownValue<'a>> {
    let (map, value) = match (label, annotation) {
        (Some(value), _) => ("labels", value),
        (None, Some(value)) => ("annotations", value),
        (None, None) => return Ok(None),
    };
    match value {
        ENABLED => Ok(Some(true)),
        DISABLED => Ok(Some(false)),
        _ => Err(UnknownValue { map, value }),
    }
}

/// Whether a namespace asks for its pods, by its label [`INJECT`].
pub fn asked_by_namespace(label: Option<&str>) -> bool {
    label == Some(ENABLED)
}

/// Who asks for a pod's sidecar: the pod itself has the word before its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The pod.
    ByPod,
    /// Its namespace, and the pod says nothing.
    ByNamespace,
    /// Nobody.
    ByNobody,
    /// The pod will have none.
    OptedOut,
}

impl Asked {
    /// From what the pod says ([`asked_by_pod`]) and whether its namespace asks.
    pub fn of(pod: Option<bool>, namespace: bool) -> Self {
        match (pod, namespace) {
            (Some(true), _) => Self::ByPod,
            (Some(false), _) => Self::OptedOut,
            (None, true) => Self::ByNamespace,
            (None, false) => Self::ByNobody,
        }
    }

    /// Whether anybody does.
    pub fn is_asked(self) -> bool {
        matches!(self, Self::ByPod | Self::ByNamespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_label_comes_before_its_annotation_and_both_before_its_namespace() {
        let asked = |label, annotation, namespace| {
            Asked::of(
                asked_by_pod(label, annotation).unwrap(),
                asked_by_namespace(namespace),
            )
        };
        let (on, off) = (Some(ENABLED), Some(DISABLED));
        assert_eq!(asked(on, off, off), Asked::ByPod);
        assert_eq!(asked(off, on, on), Asked::OptedOut);
        assert_eq!(asked(None, on, None), Asked::ByPod);
        assert_eq!(asked(None, off, on), Asked::OptedOut);
        assert_eq!(asked(None, None, on), Asked::ByNamespace);
        for nothing in [None, off, Some("true")] {
            assert_eq!(asked(None, None, nothing), Asked::ByNobody);
        }
        let unknown = |map, value| Err(UnknownValue { map, value });
        assert_eq!(asked_by_pod(Some("yes"), on), unknown("labels", "yes"));
        assert_eq!(asked_by_pod(None, Some("")), unknown("annotations", ""));
    }
}
