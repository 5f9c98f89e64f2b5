//! The mesh's roots, its issuer, and whether everybody who needs the roots has them.

use std::time::Duration;

use serde_json::Value;
use weft_inject::names::{ENABLED, INJECT};

use super::catalogue::Fault;
use super::facts::{Facts, text};
use crate::duration;

const ROTATE: &str = "`weft root rotate` makes a new one while the old one is trusted; once it has expired, new proxies and the \
                      control plane no longer believe each other: see docs/rotate.md";

pub(crate) fn root(facts: &Facts) -> Vec<Fault> {
    let mut faults = Vec::new();
    for root in &facts.roots {
        if root.not_after <= facts.now {
            let ago = rough(facts.now - root.not_after);
            faults.push(Fault::error(
                format!("root {} has expired, {ago} ago", root.subject),
                ROTATE,
            ));
        } else if root.not_before > facts.now {
            let left = rough(root.not_before - facts.now);
            faults.push(Fault::error(
                format!("root {} is valid in {left} only", root.subject),
                "see clock-skew",
            ));
        }
    }
    let alarmed = facts
        .replicas
        .iter()
        .find(|replica| replica.metric("issuer_expiry_alarm") == Some(1.0));
    if let (Some(replica), true) = (alarmed, faults.is_empty()) {
        let left = replica
            .metric("issuer_expires_in_seconds")
            .unwrap_or_default();
        let left = duration::rough(Duration::from_secs(left as u64));
        faults.push(Fault::warning(
            format!("the issuer expires in {left}"),
            ROTATE,
        ));
    }
    faults
}

fn rough(seconds: i64) -> String {
    duration::rough(Duration::from_secs(seconds.unsigned_abs()))
}

/// Whether a finding is about the CA: the mesh looks into Secrets for nothing else.
pub(crate) fn is_of_authority(finding: &Value) -> bool {
    finding["kind"] == "Secret"
}

pub(crate) fn issuing(facts: &Facts) -> Vec<Fault> {
    let mut said = Vec::new();
    for replica in &facts.replicas {
        let mut why = replica.errors().filter(|one| is_of_authority(one));
        if replica.metric("issuing") == Some(0.0) {
            let why = why
                .next()
                .map_or(String::new(), |one| format!(": {}", text(&one["text"])));
            said.push(format!(
                "replica {} cannot issue certificates{why}",
                replica.pod
            ));
        } else {
            // It goes on by what it has in memory, which ends with it.
            said.extend(why.map(|one| text(&one["text"]).to_owned()));
        }
    }
    said.sort_unstable();
    said.dedup();
    let hint = "Secret weft-ca holds the CA; a lost one is restored from a backup, never made anew: see docs/rotate.md";
    said.into_iter()
        .map(|message| Fault::error(message, hint))
        .collect()
}

pub(crate) fn anchors(facts: &Facts) -> Vec<Fault> {
    let map_of = |namespace: &str| {
        facts
            .anchors
            .iter()
            .find(|map| map["metadata"]["namespace"] == namespace)
    };
    if facts.deployment.is_null() {
        return Vec::new();
    }
    let hint = "the leader of the control plane writes it within seconds; if it does not, its log says why";
    let Some(own) = map_of(&facts.system) else {
        return vec![Fault::error(
            format!("ConfigMap {}/weft-trust is missing", facts.system),
            hint,
        )];
    };
    let in_mesh = facts.namespaces.iter().filter(|namespace| {
        namespace["metadata"]["labels"][INJECT] == ENABLED
            && namespace["metadata"]["deletionTimestamp"].is_null()
    });
    let mut faults = Vec::new();
    for namespace in in_mesh {
        let name = text(&namespace["metadata"]["name"]);
        match map_of(name) {
            None => faults.push(Fault::error(
                format!(
                    "ConfigMap {name}/weft-trust is missing: new pods of the namespace wait for it"
                ),
                hint,
            )),
            Some(map) if map["data"] != own["data"] => faults.push(Fault::error(
                format!("ConfigMap {name}/weft-trust differs from the control plane's own"),
                hint,
            )),
            Some(_) => {}
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::facts::{ReplicaFacts, Root};
    use super::*;

    #[test]
    fn an_expired_root_and_one_that_will_be_soon_are_told_apart() {
        let root_of = |not_before, not_after| Root {
            subject: "CN=weft".into(),
            not_before,
            not_after,
        };
        let mut facts = Facts {
            now: 1_000,
            roots: vec![root_of(0, 940)],
            ..Facts::default()
        };
        assert_eq!(
            root(&facts)[0].message,
            "root CN=weft has expired, 1m0s ago"
        );
        facts.roots = vec![root_of(1_060, 9_000)];
        assert_eq!(
            root(&facts)[0].message,
            "root CN=weft is valid in 1m0s only"
        );
        facts.roots = vec![root_of(0, 9_000)];
        assert_eq!(root(&facts), []);
        facts.replicas = vec![ReplicaFacts {
            metrics: Some("weft_control_plane_issuer_expiry_alarm 1.0\nweft_control_plane_issuer_expires_in_seconds 7200.0\n".into()),
            ..ReplicaFacts::default()
        }];
        assert_eq!(root(&facts)[0].message, "the issuer expires in 2h0m");
    }

    #[test]
    fn anchors_must_be_in_every_namespace_of_the_mesh() {
        let map = |namespace: &str, pem: &str| json!({"metadata": {"namespace": namespace}, "data": {"bundle.pem": pem}});
        let namespace = |name: &str| json!({"metadata": {"name": name, "labels": {"mesh.weft.dev/inject": "enabled"}}});
        let mut facts = Facts {
            system: "weft-system".into(),
            deployment: json!({}),
            ..Facts::default()
        };
        assert!(
            anchors(&facts)[0]
                .message
                .starts_with("ConfigMap weft-system/weft-trust is missing")
        );
        facts.namespaces = ["a", "b", "c"].map(namespace).to_vec();
        facts.anchors = vec![map("weft-system", "1"), map("a", "1"), map("b", "0")];
        let said: Vec<String> = anchors(&facts)
            .into_iter()
            .map(|fault| fault.message)
            .collect();
        assert!(
            said[0].starts_with("ConfigMap b/weft-trust differs")
                && said[1].starts_with("ConfigMap c/weft-trust is missing"),
            "{said:?}"
        );
    }

    #[test]
    fn a_replica_that_cannot_issue_says_why() {
        let facts = Facts {
            replicas: vec![ReplicaFacts {
                pod: "cp-1".into(),
                metrics: Some("weft_control_plane_issuing 0.0\n".into()),
                diagnostics: vec![
                    json!({"severity": "error", "kind": "Secret", "text": "Secret weft-system/weft-ca: it is gone"}),
                ],
            }],
            ..Facts::default()
        };
        assert_eq!(
            issuing(&facts)[0].message,
            "replica cp-1 cannot issue certificates: Secret weft-system/weft-ca: it is gone"
        );
    }

    #[test]
    fn a_damaged_ca_is_named_once_while_replicas_go_on_by_memory() {
        let replica = |pod: &str| ReplicaFacts {
            pod: pod.into(),
            metrics: Some("weft_control_plane_issuing 1.0\n".into()),
            diagnostics: vec![
                json!({"severity": "error", "kind": "Secret", "text": "Secret weft-system/weft-ca: it is damaged"}),
            ],
        };
        let facts = Facts {
            replicas: vec![replica("cp-1"), replica("cp-2")],
            ..Facts::default()
        };
        let [only] = &issuing(&facts)[..] else {
            panic!("it is said once");
        };
        assert_eq!(only.message, "Secret weft-system/weft-ca: it is damaged");
    }
}
