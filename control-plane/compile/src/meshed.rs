//! Pods that should have a sidecar and have none: made before their namespace was put into the mesh,
//! or while the webhook was away. They work as if there were no mesh, and nothing holds policies there.

use std::sync::Arc;

use weft_model::membership::{self, Asked};
use weft_model::{FieldPath, Kind, Object, ObjectKey, Pod, ROOT_NAMESPACE, Reason, Spec};

use crate::findings::Findings;
use crate::index::Index;

/// So many pods are named.
const NAMED: usize = 3;

/// Runs, in a network of its own, and has none.
pub(crate) fn is_without_sidecar(pod: &Pod) -> bool {
    !pod.meshed && !pod.host_network && !pod.terminating && !pod.ips.is_empty()
}

/// Says so of a pod that should have one.
pub(crate) fn check(index: &Index, object: &Object, pod: &Pod, findings: &mut Findings) {
    if !is_without_sidecar(pod) {
        return;
    }
    let asked = match asked(index, &object.key, pod) {
        Asked::ByPod => "it asks for one",
        Asked::ByNamespace => "its namespace is in the mesh",
        Asked::OptedOut | Asked::ByNobody => return,
    };
    findings.warning(
        object,
        FieldPath::default(),
        Reason::NotMeshed,
        format!("runs without a sidecar, though {asked}: no mTLS and no policy; delete it, so that whatever made it makes another"),
    );
}

/// Says of a policy, AuthorizationPolicy or PeerAuthentication, that it chooses no pod, or which of those
/// that it chooses (by the field `by`) have no sidecar to enforce it.
pub(crate) fn check_chosen(
    index: &Index,
    policy: &Object,
    by: FieldPath,
    mut chosen: Vec<(&Arc<Object>, &Pod)>,
    findings: &mut Findings,
) {
    if index.has_no_pods() {
        return;
    }
    let everywhere = *policy.key.namespace == *ROOT_NAMESPACE;
    if everywhere {
        // One for the whole mesh is not about what nobody put into it.
        chosen.retain(|(object, pod)| pod.meshed || asked(index, &object.key, pod).is_asked());
    }
    if chosen.is_empty() {
        let message = "chooses no pod, so it has no effect yet";
        findings.warning(policy, by, Reason::NoWorkloads, message);
    } else if let Some(message) = unenforced(&chosen, everywhere) {
        findings.warning(policy, by, Reason::NotMeshed, message);
    }
}

fn unenforced(chosen: &[(&Arc<Object>, &Pod)], everywhere: bool) -> Option<String> {
    let nowhere = !chosen.iter().any(|(_, pod)| pod.meshed);
    let mut names: Vec<_> = chosen
        .iter()
        .filter(|(_, pod)| nowhere || is_without_sidecar(pod))
        .map(|(object, _)| match everywhere {
            true => format!("{}/{}", object.key.namespace, object.key.name),
            false => object.key.name.to_string(),
        })
        .collect();
    if names.is_empty() {
        return None;
    }
    names.sort_unstable();
    let (count, of) = (names.len(), chosen.len());
    let more = count.saturating_sub(NAMED);
    names.truncate(NAMED);
    let mut named = names.join(", ");
    if more > 0 {
        named = format!("{named} and {more} more");
    }
    Some(format!(
        "nothing enforces it on {count} of {of} pods, which have no sidecar: {named}"
    ))
}

/// Who asks for the pod's sidecar, where any webhook is shown it.
fn asked(index: &Index, pod_key: &ObjectKey, pod: &Pod) -> Asked {
    let name = &*pod_key.namespace;
    if membership::excluded(ROOT_NAMESPACE).contains(&name) {
        return Asked::ByNobody;
    }
    let key = ObjectKey::new(Kind::Namespace, "", name);
    let object = index.world().object(&key);
    let in_mesh = matches!(object.map(|object| &object.spec), Some(Spec::Namespace(namespace)) if namespace.is_in_mesh());
    Asked::of(pod.asks_for_mesh, in_mesh)
}
