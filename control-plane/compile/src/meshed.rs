//! Pods that should have a sidecar and have none: made before their namespace was put into the mesh,
//! or while the webhook was away. They work as if there were no mesh, and nothing holds policies there.

use std::sync::Arc;

use weft_model::{FieldPath, Kind, Object, ObjectKey, Pod, ROOT_NAMESPACE, Reason, Spec};

use crate::findings::Findings;
use crate::index::Index;

/// Namespaces whose pods are shown to no webhook.
const EXCLUDED: [&str; 2] = ["kube-system", ROOT_NAMESPACE];
/// So many pods are named.
const NAMED: usize = 3;

/// Runs, in a network of its own, and has none.
pub(crate) fn is_without_sidecar(pod: &Pod) -> bool {
    !pod.meshed && !pod.host_network && !pod.terminating && !pod.ips.is_empty()
}

/// Says so of a pod that should have one.
pub(crate) fn check(index: &Index, object: &Object, pod: &Pod, findings: &mut Findings) {
    if !is_without_sidecar(pod) || !should_have_one(index, &object.key, pod) {
        return;
    }
    let asked = match pod.asks_for_mesh {
        Some(true) => "it asks for one",
        _ => "its namespace is in the mesh",
    };
    findings.warning(
        object,
        FieldPath::default(),
        Reason::NotMeshed,
        format!("runs without a sidecar, though {asked}: no mTLS and no policy; delete it, so that whatever made it makes another"),
    );
}

/// Which of the pods that a policy chooses run without a sidecar, as a message.
pub(crate) fn unenforced(
    index: &Index,
    policy: &ObjectKey,
    chosen: &[(&Arc<Object>, &Pod)],
) -> Option<String> {
    let everywhere = *policy.namespace == *ROOT_NAMESPACE;
    let mut names: Vec<_> = chosen
        .iter()
        .filter(|(_, pod)| is_without_sidecar(pod))
        // One for the whole mesh is not about what nobody put into it.
        .filter(|(object, pod)| !everywhere || should_have_one(index, &object.key, pod))
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

fn should_have_one(index: &Index, pod_key: &ObjectKey, pod: &Pod) -> bool {
    let namespace = &*pod_key.namespace;
    if EXCLUDED.contains(&namespace) {
        return false;
    }
    pod.asks_for_mesh.unwrap_or_else(|| {
        let key = ObjectKey::new(Kind::Namespace, "", namespace);
        let object = index.world().object(&key);
        matches!(object.map(|object| &object.spec), Some(Spec::Namespace(namespace)) if namespace.is_in_mesh())
    })
}
