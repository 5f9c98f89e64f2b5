//! Whether a workload takes plaintext: the PeerAuthentication that is nearest to it, and of several
//! equally near the oldest.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_model::{
    FieldPath, Kind, MeshConfig, MtlsMode, Object, PeerAuthentication, Pod, ROOT_NAMESPACE, Reason,
    Spec,
};

use crate::findings::Findings;
use crate::index::Index;
use crate::meshed;
use crate::targets::{pods_in_scope, selects};

/// What a pod takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Modes {
    /// On ports that are not listed.
    pub(crate) default: MtlsMode,
    /// By port.
    pub(crate) ports: BTreeMap<u16, MtlsMode>,
}

impl Modes {
    pub(crate) fn of(&self, port: u16) -> MtlsMode {
        self.ports.get(&port).copied().unwrap_or(self.default)
    }
}

fn in_namespace<'a>(
    index: &'a Index,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a Arc<Object>, &'a PeerAuthentication)> {
    index
        .world()
        .in_namespace(Kind::PeerAuthentication, namespace)
        .filter_map(|object| match &object.spec {
            Spec::PeerAuthentication(policy) => Some((object, policy)),
            _ => None,
        })
}

/// The oldest of a namespace that is for `labels` by selector, or, without labels, for all.
fn oldest<'a>(
    index: &'a Index,
    namespace: &'a str,
    labels: Option<&weft_model::Labels>,
) -> Option<(&'a Arc<Object>, &'a PeerAuthentication)> {
    in_namespace(index, namespace)
        .filter(|(_, policy)| match labels {
            Some(labels) => !policy.selector.is_empty() && selects(&policy.selector, labels),
            None => policy.selector.is_empty(),
        })
        .min_by(|(a, _), (b, _)| a.seniority().cmp(&b.seniority()))
}

/// The modes of a pod: workload before namespace before mesh, each leaving what it does not say to
/// the next. One that could not be read is taken for STRICT.
pub(crate) fn modes(index: &Index, mesh: &MeshConfig, pod_object: &Object, pod: &Pod) -> Modes {
    let namespace = &*pod_object.key.namespace;
    let nearest_first = [
        oldest(index, namespace, Some(&pod.labels)),
        oldest(index, ROOT_NAMESPACE, Some(&pod.labels)),
        oldest(index, namespace, None),
        oldest(index, ROOT_NAMESPACE, None),
    ];
    let mut modes = Modes {
        default: mesh.mtls.unwrap_or_default(),
        ports: BTreeMap::new(),
    };
    for (object, policy) in nearest_first.into_iter().rev().flatten() {
        let unreadable = (!object.problems.is_empty()).then_some(MtlsMode::Strict);
        if let Some(mode) = unreadable.or(policy.mode) {
            // Said nearer by than any port of a wider scope.
            modes.default = mode;
            modes.ports.clear();
        }
        if unreadable.is_none() {
            modes
                .ports
                .extend(policy.ports.iter().map(|(port, mode)| (*port, *mode)));
        }
    }
    modes
}

/// What is to be said about the PeerAuthentications of a namespace.
pub(crate) fn check(index: &Index, namespace: &str) -> Findings {
    let mut findings = Findings::default();
    let policies: Vec<_> = in_namespace(index, namespace).collect();
    for (object, policy) in &policies {
        if !object.problems.is_empty() {
            findings.error(
                object,
                "spec".into(),
                Reason::PolicyDenies,
                "cannot be used as it is, so STRICT holds for its pods; correct the fields reported",
            );
        }
        let older = policies
            .iter()
            .filter(|(other, _)| other.seniority() < object.seniority());
        let conflict = older.clone().find_map(|(other, theirs)| {
            let pod = common_pod(index, namespace, policy, theirs)?;
            Some((other, pod))
        });
        if let Some((other, pod)) = conflict {
            findings.error(
                object,
                scope(policy),
                Reason::Conflicted,
                format!("PeerAuthentication {} is older and holds for {pod}; change or remove one of the two", other.key.name),
            );
        }
        let chosen: Vec<_> = pods_in_scope(index, namespace)
            .filter(|(_, pod)| selects(&policy.selector, &pod.labels))
            .collect();
        meshed::check_chosen(index, object, scope(policy), chosen, &mut findings);
    }
    findings
}

fn scope(policy: &PeerAuthentication) -> FieldPath {
    if policy.selector.is_empty() {
        "spec".into()
    } else {
        "spec.selector".into()
    }
}

/// What two policies of one namespace both claim, for a message.
fn common_pod(
    index: &Index,
    namespace: &str,
    one: &PeerAuthentication,
    other: &PeerAuthentication,
) -> Option<String> {
    match (one.selector.is_empty(), other.selector.is_empty()) {
        (true, true) => Some("the same pods".into()),
        (false, false) => pods_in_scope(index, namespace)
            .find(|(_, pod)| {
                selects(&one.selector, &pod.labels) && selects(&other.selector, &pod.labels)
            })
            .map(|(object, _)| format!("Pod {}/{}", object.key.namespace, object.key.name)),
        _ => None,
    }
}
