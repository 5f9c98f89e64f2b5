//! The control plane: whether it is there, runs, has the right version and may do what it has to.

use serde_json::Value;

use super::catalogue::Fault;
use super::facts::{Facts, named, text};
use crate::cluster::is_ready;

const VERSION: &str = "app.kubernetes.io/version";

pub(crate) fn existing(facts: &Facts) -> Vec<Fault> {
    let existing = facts.deployments.iter();
    existing
        .map(|one| {
            Fault::warning(
                format!("{} is there already", named(one)),
                "there is one mesh in a cluster: `weft upgrade` changes it, `weft uninstall` removes it",
            )
        })
        .collect()
}

pub(crate) fn replicas(facts: &Facts) -> Vec<Fault> {
    if facts.deployment.is_null() {
        return vec![Fault::error(
            format!("there is no Deployment {}/weft-control-plane", facts.system),
            "`weft install | kubectl apply -f -`, or name its namespace by --system-namespace",
        )];
    }
    let wanted = facts.deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    let available = facts.deployment["status"]["readyReplicas"]
        .as_u64()
        .unwrap_or(0);
    let mut faults = Vec::new();
    if wanted == 0 {
        faults.push(Fault::error(
            "the control plane is scaled to 0: no new pod of the mesh starts, no certificate is renewed",
            format!("kubectl -n {} scale deployment/weft-control-plane --replicas=3", facts.system),
        ));
    }
    if available < wanted {
        let reasons: Vec<String> = own_pods(facts)
            .filter(|pod| !is_ready(pod))
            .map(why_not_ready)
            .collect();
        faults.push(Fault::error(
            format!("{available} of {wanted} replicas are ready{}", reasons.concat()),
            format!(
                "kubectl -n {0} describe pods -l app.kubernetes.io/name=weft-control-plane; kubectl -n {0} logs deployment/weft-control-plane",
                facts.system
            ),
        ));
    }
    faults
}

fn own_pods(facts: &Facts) -> impl Iterator<Item = &Value> {
    let pods = facts.pods.iter();
    pods.filter(|pod| {
        pod["metadata"]["namespace"] == facts.system
            && pod["metadata"]["labels"]["app.kubernetes.io/name"] == "weft-control-plane"
            && pod["metadata"]["deletionTimestamp"].is_null()
    })
}

/// `; NAME: its container waits: ImagePullBackOff`
fn why_not_ready(pod: &Value) -> String {
    let status = &pod["status"];
    let state = &status["containerStatuses"][0]["state"];
    let reason = ["waiting", "terminated"]
        .iter()
        .find_map(|one| state[one]["reason"].as_str());
    let reason = reason
        .or(status["reason"].as_str())
        .or(status["phase"].as_str());
    format!(
        "; {}: {}",
        text(&pod["metadata"]["name"]),
        reason.unwrap_or("not ready")
    )
}

pub(crate) fn version(facts: &Facts) -> Vec<Fault> {
    let Some(found) = facts.deployment["metadata"]["labels"][VERSION].as_str() else {
        return Vec::new();
    };
    match found == facts.tool {
        true => Vec::new(),
        false => vec![Fault::warning(
            format!("the control plane is {found}, this tool is {}", facts.tool),
            "use the tool of that version, or `weft upgrade` to this one: each judges by its own rules",
        )],
    }
}

pub(crate) fn access(facts: &Facts) -> Vec<Fault> {
    let refused = facts.access.iter().filter(|one| !one.is_allowed);
    let refused: Vec<&str> = refused.map(|one| one.what.as_str()).collect();
    // Without a control plane nobody has to be permitted anything.
    if refused.is_empty() || facts.deployment.is_null() {
        return Vec::new();
    }
    vec![Fault::error(
        format!("the control plane may not {}", refused.join(", ")),
        "apply its roles again: `weft install` prints them (ClusterRole and Role weft-control-plane)",
    )]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::facts::Access;
    use super::*;

    #[test]
    fn replicas_that_are_missing_are_counted_with_the_reason() {
        let mut facts = Facts {
            system: "weft-system".into(),
            ..Facts::default()
        };
        assert!(
            replicas(&facts)[0]
                .message
                .starts_with("there is no Deployment weft-system/")
        );
        facts.deployment = json!({"spec": {"replicas": 3}, "status": {"readyReplicas": 3}});
        assert_eq!(replicas(&facts), []);
        facts.deployment["status"]["readyReplicas"] = 2.into();
        facts.pods = vec![json!({
            "metadata": {"namespace": "weft-system", "name": "cp-1", "labels": {"app.kubernetes.io/name": "weft-control-plane"}},
            "status": {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
        })];
        assert_eq!(
            replicas(&facts)[0].message,
            "2 of 3 replicas are ready; cp-1: ImagePullBackOff"
        );
        facts.deployment = json!({"spec": {"replicas": 0}});
        assert!(replicas(&facts)[0].hint.contains("--replicas=3"));
    }

    #[test]
    fn what_is_not_permitted_is_named() {
        let access = |what: &str, is_allowed| Access {
            what: what.into(),
            is_allowed,
        };
        let all = vec![
            access("list pods", false),
            access("get nodes", true),
            access("list nodes", false),
        ];
        let mut facts = Facts {
            access: all,
            ..Facts::default()
        };
        assert_eq!(super::access(&facts), []);
        facts.deployment = json!({});
        let found = super::access(&facts);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].message,
            "the control plane may not list pods, list nodes"
        );
    }
}
