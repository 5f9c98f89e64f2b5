//! Proxies: as the control plane sees them, and with `--proxy` as each sees itself.

use serde_json::Value;

use super::catalogue::Fault;
use super::facts::{Facts, list, text};
use crate::cluster::{Meshed, meshed};
use crate::duration;
use crate::proxy::refusal;
use crate::version::{Distance, Version};

/// A certificate that has less left than this has missed its renewal, at the usual lifetimes.
const LITTLE: i64 = 300;

pub(crate) fn version(facts: &Facts) -> Vec<Fault> {
    let control_plane = text(&facts.deployment["metadata"]["labels"]["app.kubernetes.io/version"]);
    if control_plane.is_empty() {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for Meshed { name, pod, version } in meshed(&facts.pods, &facts.system) {
        if version == control_plane {
            continue;
        }
        let message =
            format!("the proxy of pod {name} is {version}, the control plane {control_plane}");
        let hint = format!(
            "make the pod anew, and it gets this version's: {}",
            super::workloads::restart(pod)
        );
        let distance = Version::parse(version)
            .zip(Version::parse(control_plane))
            .map(|(proxy, own)| own.distance(&proxy));
        faults.push(match distance {
            Some(Distance::Same | Distance::Neighbour) => Fault::warning(message, hint),
            _ => Fault::error(
                format!("{message}: only neighbouring minor versions understand each other"),
                hint,
            ),
        });
    }
    faults
}

pub(crate) fn streams(facts: &Facts) -> Vec<Fault> {
    let mut faults = Vec::new();
    for replica in list(&facts.status["replicas"]).filter(|one| !one["error"].is_null()) {
        faults.push(Fault::error(
            format!(
                "replica {} does not answer: {}",
                text(&replica["pod"]),
                text(&replica["error"])
            ),
            "its proxies are not checked; its log says how it is",
        ));
    }
    // A pod that is starting has no stream yet.
    let is_running = |name: &str| {
        let mut pods = facts.pods.iter();
        pods.any(|pod| {
            crate::cluster::pod_name(pod) == name
                && pod["status"]["phase"] == "Running"
                && pod["metadata"]["deletionTimestamp"].is_null()
        })
    };
    for proxy in list(&facts.status["unconnected"]).filter(|one| is_running(text(&one["pod"]))) {
        let pod = text(&proxy["pod"]);
        let (namespace, name) = pod.split_once('/').unwrap_or_default();
        faults.push(Fault::error(
            format!("the proxy of pod {pod} is not connected to any replica: it serves by what it knew last"),
            format!("kubectl -n {namespace} logs {name} -c weft-proxy; can the pod reach weft-control-plane.{}:15010?", facts.system),
        ));
    }
    for proxy in list(&facts.status["proxies"]) {
        let pod = text(&proxy["pod"]);
        for one in list(&proxy["refusals"]) {
            faults.push(Fault::error(
                format!("the proxy of pod {pod} refuses {}; what was in force before still is", refusal(one)),
                "change the object that it is made from; if the proxy is older than the control plane, restart its pod",
            ));
        }
        let pending: Vec<&str> = list(&proxy["pending"]).filter_map(Value::as_str).collect();
        if proxy["upToDate"] != true
            && list(&proxy["refusals"]).next().is_none()
            && !pending.is_empty()
        {
            faults.push(Fault::warning(
                format!("the proxy of pod {pod} is behind: {}", pending.join(", ")),
                "it catches up in a moment; if it does not, its log says what it waits for",
            ));
        }
    }
    faults
}

pub(crate) fn ready(facts: &Facts) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (pod, answer) in &facts.proxies {
        match answer {
            Err(error) => faults.push(Fault::error(
                format!("the proxy of pod {pod} does not answer: {error}"),
                "is it running? its log says more",
            )),
            Ok(config) => {
                let missing: Vec<&str> = list(&config["readiness"]["missing"])
                    .filter_map(Value::as_str)
                    .collect();
                if !missing.is_empty() {
                    faults.push(Fault::error(
                        format!(
                            "the proxy of pod {pod} is not ready: {} missing",
                            missing.join(", ")
                        ),
                        "see `weft proxy config` of it, and its log",
                    ));
                }
            }
        }
    }
    faults
}

pub(crate) fn certificates(facts: &Facts) -> Vec<Fault> {
    let answers = facts
        .proxies
        .iter()
        .filter_map(|(pod, answer)| Some((pod, answer.as_ref().ok()?)));
    let mut faults = Vec::new();
    for (pod, config) in answers {
        let Some(end) = config["certificate"]["notAfter"].as_i64() else {
            continue;
        };
        let left = end - facts.now;
        let hint = "it renews at two thirds of its life: its log says why it could not, and see issuing and clock-skew";
        if left <= 0 {
            faults.push(Fault::error(
                format!("the certificate of pod {pod} has expired: nothing is let in or out"),
                hint,
            ));
        } else if left < LITTLE {
            let left = duration::rough(std::time::Duration::from_secs(left.unsigned_abs()));
            faults.push(Fault::warning(
                format!("the certificate of pod {pod} ends in {left}"),
                hint,
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::catalogue::Severity;

    fn meshed(name: &str, version: &str) -> Value {
        json!({
            "metadata": {
                "namespace": "shop", "name": name,
                "annotations": {"mesh.weft.dev/status": "injected"}, "labels": {"mesh.weft.dev/proxy-version": version},
            },
            "spec": {"initContainers": [{"name": "weft-proxy"}]},
            "status": {"phase": "Running"},
        })
    }

    #[test]
    fn an_old_proxy_is_a_warning_while_it_is_a_neighbour() {
        let facts = Facts {
            deployment: json!({"metadata": {"labels": {"app.kubernetes.io/version": "0.3.0"}}}),
            pods: vec![
                meshed("a", "0.3.0"),
                meshed("b", "0.2.7"),
                meshed("c", "0.1.0"),
            ],
            ..Facts::default()
        };
        let found = version(&facts);
        let severities: Vec<Severity> = found.iter().map(|fault| fault.severity).collect();
        assert_eq!(severities, [Severity::Warning, Severity::Error]);
        assert_eq!(
            found[0].message,
            "the proxy of pod shop/b is 0.2.7, the control plane 0.3.0"
        );
        assert!(
            found[0].hint.ends_with("kubectl -n shop delete pod b"),
            "{found:?}"
        );
    }

    #[test]
    fn streams_that_are_missing_or_refuse_are_named() {
        let refusal = json!({"resource": "Service shop/w", "field": "ports", "reason": "odd"});
        let facts = Facts {
            pods: vec![meshed("a", "1"), meshed("b", "1")],
            status: json!({
                "replicas": [{"pod": "cp-1"}, {"pod": "cp-2", "error": "gone"}],
                "proxies": [{"pod": "shop/a", "upToDate": false, "refusals": [refusal], "pending": []},
                    {"pod": "shop/d", "upToDate": false, "refusals": [], "pending": ["Inbound shop/d"]}],
                "unconnected": [{"pod": "shop/b"}, {"pod": "shop/starting"}],
            }),
            ..Facts::default()
        };
        let said: Vec<String> = streams(&facts)
            .into_iter()
            .map(|fault| fault.message)
            .collect();
        assert_eq!(
            said,
            [
                "replica cp-2 does not answer: gone",
                "the proxy of pod shop/b is not connected to any replica: it serves by what it knew last",
                "the proxy of pod shop/a refuses Service shop/w: ports: odd; what was in force before still is",
                "the proxy of pod shop/d is behind: Inbound shop/d",
            ]
        );
    }

    #[test]
    fn a_proxy_tells_of_its_own_state() {
        let config = json!({"readiness": {"missing": ["inbound policy"]}, "certificate": {"notAfter": 1_100}});
        let proxies = vec![
            ("shop/a".to_owned(), Ok(config)),
            ("shop/b".to_owned(), Err("refused".to_owned())),
        ];
        let mut facts = Facts {
            proxies,
            now: 1_000,
            ..Facts::default()
        };
        let said: Vec<String> = ready(&facts)
            .into_iter()
            .map(|fault| fault.message)
            .collect();
        assert_eq!(
            said,
            [
                "the proxy of pod shop/a is not ready: inbound policy missing",
                "the proxy of pod shop/b does not answer: refused"
            ]
        );
        assert_eq!(
            certificates(&facts)[0].message,
            "the certificate of pod shop/a ends in 1m40s"
        );
        facts.now = 1_100;
        assert_eq!(certificates(&facts)[0].severity, Severity::Error);
    }
}
