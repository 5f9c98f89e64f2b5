//! Every check that there is, in the order in which they are shown: what it asserts, when it is made, and where the page about
//! it is. What it finds is decided over [`Facts`] alone.

use serde::Serialize;

use super::facts::Facts;
use super::{clocks, control_plane, identity, kubernetes, objects, proxies, webhook, workloads};

/// When checks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before the mesh is installed.
    Before,
    /// Of a mesh that is there.
    After,
    /// Of a mesh that is there, each of its proxies asked too.
    Proxies,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Something works less well than it could, or will fail later.
    Warning,
    /// Something does not work.
    Error,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    pub severity: Severity,
    /// What is wrong with which object.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Fault {
    pub(crate) fn error(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            hint: hint.into(),
        }
    }

    pub(crate) fn warning(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(message, hint)
        }
    }
}

/// One check.
pub(crate) struct Check {
    /// Its name, and its heading in `docs/check.md`.
    pub id: &'static str,
    pub category: &'static str,
    /// What holds when nothing is wrong.
    pub title: &'static str,
    /// The stages in which it is made.
    pub stages: &'static [Stage],
    /// Facts → what is wrong.
    pub faults: fn(&Facts) -> Vec<Fault>,
}

impl Check {
    /// The page about it.
    pub(crate) fn page(&self) -> String {
        format!("docs/check.md#{}", self.id)
    }
}

const ALWAYS: &[Stage] = &[Stage::Before, Stage::After, Stage::Proxies];
const BEFORE: &[Stage] = &[Stage::Before];
const AFTER: &[Stage] = &[Stage::After, Stage::Proxies];
const PROXIES: &[Stage] = &[Stage::Proxies];

const fn check(
    id: &'static str,
    category: &'static str,
    title: &'static str,
    stages: &'static [Stage],
    faults: fn(&Facts) -> Vec<Fault>,
) -> Check {
    Check {
        id,
        category,
        title,
        stages,
        faults,
    }
}

/// All of them.
pub(crate) const CHECKS: [Check; 21] = [
    check(
        "facts",
        "Kubernetes",
        "everything that is asked for is answered",
        ALWAYS,
        kubernetes::unanswered,
    ),
    check(
        "kubernetes-version",
        "Kubernetes",
        "Kubernetes is new enough",
        ALWAYS,
        kubernetes::version,
    ),
    check(
        "permissions",
        "Kubernetes",
        "you may create everything that is installed",
        BEFORE,
        kubernetes::permissions,
    ),
    check(
        "clock-skew",
        "Kubernetes",
        "clocks agree",
        ALWAYS,
        clocks::skew,
    ),
    check(
        "gateway-api",
        "Gateway API",
        "the Gateway API is there with all fields that Weft uses",
        ALWAYS,
        kubernetes::gateway_api,
    ),
    check(
        "existing-mesh",
        "Control plane",
        "no mesh is installed yet",
        BEFORE,
        control_plane::existing,
    ),
    check(
        "crds",
        "Control plane",
        "Weft's CRDs are there, as this version has them",
        AFTER,
        kubernetes::crds,
    ),
    check(
        "control-plane",
        "Control plane",
        "the control plane runs, all replicas ready",
        AFTER,
        control_plane::replicas,
    ),
    check(
        "version",
        "Control plane",
        "the control plane has the version of this tool",
        AFTER,
        control_plane::version,
    ),
    check(
        "rbac",
        "Control plane",
        "the control plane may do what it has to",
        AFTER,
        control_plane::access,
    ),
    check(
        "root",
        "Identity",
        "roots and issuer are valid",
        AFTER,
        identity::root,
    ),
    check(
        "issuing",
        "Identity",
        "certificates are issued",
        AFTER,
        identity::issuing,
    ),
    check(
        "trust-anchors",
        "Identity",
        "every namespace of the mesh has the trust anchors",
        AFTER,
        identity::anchors,
    ),
    check(
        "webhook",
        "Injection",
        "a new pod gets its proxy",
        AFTER,
        webhook::works,
    ),
    check(
        "unmeshed-pods",
        "Injection",
        "every pod that should have a proxy has one",
        AFTER,
        workloads::unmeshed,
    ),
    check(
        "port-conflict",
        "Injection",
        "no workload uses what is the proxy's",
        ALWAYS,
        workloads::conflicts,
    ),
    check(
        "proxy-version",
        "Proxies",
        "proxies have the version of the control plane",
        AFTER,
        proxies::version,
    ),
    check(
        "proxy-stream",
        "Proxies",
        "every proxy is connected, up to date and refuses nothing",
        AFTER,
        proxies::streams,
    ),
    check(
        "proxy-ready",
        "Proxies",
        "every proxy says that it serves",
        PROXIES,
        proxies::ready,
    ),
    check(
        "proxy-certificate",
        "Proxies",
        "every proxy has a certificate with time left",
        PROXIES,
        proxies::certificates,
    ),
    check(
        "policies",
        "Objects",
        "every policy and route is in force as it is written",
        AFTER,
        objects::in_force,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_its_place_on_the_page() {
        let page = include_str!("../../../docs/check.md");
        for check in &CHECKS {
            let heading = format!("\n### {}\n", check.id);
            assert!(page.contains(&heading), "docs/check.md has no {heading:?}");
        }
        let headings = page.lines().filter_map(|line| line.strip_prefix("### "));
        for heading in headings {
            assert!(CHECKS.iter().any(|check| check.id == heading), "{heading}");
        }
    }

    #[test]
    fn a_fault_says_what_to_do() {
        let facts = Facts::default();
        for check in &CHECKS {
            for fault in (check.faults)(&facts) {
                assert!(!fault.hint.is_empty(), "{}: {}", check.id, fault.message);
            }
        }
    }
}
