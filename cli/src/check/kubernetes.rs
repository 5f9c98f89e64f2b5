//! What the mesh stands on: Kubernetes' version, what may be done, the CRDs of the Gateway API and Weft's own.

use std::collections::BTreeSet;

use serde_json::Value;

use super::catalogue::Fault;
use super::facts::{Facts, list, text};

/// Native sidecars, and hooks that sleep, are on by default from here on.
const OLDEST: (u64, u64) = (1, 30);
/// What of the routes' fields works in Weft; a test holds the page to the code.
const CAPABILITIES: &str = include_str!("../../../docs/capabilities.md");

pub(crate) fn unanswered(facts: &Facts) -> Vec<Fault> {
    let unanswered = facts.unanswered.iter();
    unanswered
        .map(|(what, why)| {
            Fault::error(
                format!("{what}: {why}"),
                "what depends on it is not checked; is the API server well, and may you ask for this?",
            )
        })
        .collect()
}

pub(crate) fn version(facts: &Facts) -> Vec<Fault> {
    let number = |field: &str| -> Option<u64> {
        let text = facts.kubernetes[field].as_str()?;
        // Clouds write `30+`.
        text.trim_end_matches(|c: char| !c.is_ascii_digit())
            .parse()
            .ok()
    };
    match number("major").zip(number("minor")) {
        Some(found) if found < OLDEST => vec![Fault::error(
            format!(
                "Kubernetes is {}.{}; {}.{} is needed",
                found.0, found.1, OLDEST.0, OLDEST.1
            ),
            "upgrade the cluster: proxies are native sidecars, which older versions do not have",
        )],
        _ => Vec::new(),
    }
}

pub(crate) fn permissions(facts: &Facts) -> Vec<Fault> {
    let refused = facts.access.iter().filter(|one| !one.is_allowed);
    let refused: Vec<&str> = refused.map(|one| one.what.as_str()).collect();
    match refused[..] {
        [] => Vec::new(),
        _ => vec![Fault::error(
            format!("you may not {}", refused.join(", ")),
            "install as an administrator of the cluster (role cluster-admin)",
        )],
    }
}

fn crd<'a>(facts: &'a Facts, name: &str) -> Option<&'a Value> {
    facts
        .crds
        .iter()
        .find(|crd| crd["metadata"]["name"] == name)
}

fn served(crd: &Value, version: &str) -> Option<Value> {
    let mut versions = list(&crd["spec"]["versions"]);
    versions
        .find(|one| one["name"] == version && one["served"] == true)
        .cloned()
}

pub(crate) fn crds(facts: &Facts) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (_, own) in weft_api::crd::crds() {
        let Ok(own) = serde_json::to_value(own) else {
            continue;
        };
        let name = text(&own["metadata"]["name"]);
        let hint = "`weft install | kubectl apply -f -` with the values of your mesh brings it; objects of the kind that were \
                    deleted with it have to be applied again";
        let Some(found) = crd(facts, name) else {
            faults.push(Fault::error(format!("CRD {name} is missing"), hint));
            continue;
        };
        let version = text(&own["spec"]["versions"][0]["name"]);
        let Some(serving) = served(found, version) else {
            faults.push(Fault::error(
                format!("CRD {name} does not serve {version}"),
                hint,
            ));
            continue;
        };
        let lacking = lacking(&own["spec"]["versions"][0], &serving);
        if !lacking.is_empty() {
            faults.push(Fault::warning(
                format!(
                    "CRD {name} is of another version: it lacks {}",
                    lacking.join(", ")
                ),
                "`weft upgrade` brings the CRDs of this version",
            ));
        }
    }
    faults
}

/// The fields of `spec` in one version of a CRD that another lacks.
fn lacking(one: &Value, other: &Value) -> Vec<String> {
    let (mut wanted, mut found) = (BTreeSet::new(), BTreeSet::new());
    fields(
        &one["schema"]["openAPIV3Schema"]["properties"]["spec"],
        "spec",
        &mut wanted,
    );
    fields(
        &other["schema"]["openAPIV3Schema"]["properties"]["spec"],
        "spec",
        &mut found,
    );
    wanted.difference(&found).cloned().collect()
}

/// The paths of a schema's leaves: `spec.rules[].name`.
fn fields(schema: &Value, at: &str, into: &mut BTreeSet<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, below) in properties {
            fields(below, &format!("{at}.{name}"), into);
        }
    } else if schema["items"].is_object() {
        fields(&schema["items"], &format!("{at}[]"), into);
    } else {
        into.insert(at.to_owned());
    }
}

pub(crate) fn gateway_api(facts: &Facts) -> Vec<Fault> {
    let routes = [
        ("HTTPRoute", "httproutes.gateway.networking.k8s.io"),
        ("GRPCRoute", "grpcroutes.gateway.networking.k8s.io"),
    ];
    let lacking = routes.map(|(kind, name)| match crd(facts, name) {
        Some(found) => route_crd_lacks(kind, found),
        None => Some(Fault::warning(
            format!("CRD {name} is missing: there are no {kind}s"),
            CHANNEL,
        )),
    });
    lacking.into_iter().flatten().collect()
}

const CHANNEL: &str = "the Gateway API's CRDs are yours to choose and Weft never writes them: apply the experimental channel of its \
                       release (experimental-install.yaml), which has every field that Weft uses";

/// What the CRD of a route's kind lacks that Weft or the experimental channel knows.
fn route_crd_lacks(kind: &str, found: &Value) -> Option<Fault> {
    let metadata = &found["metadata"];
    let annotation = |key: &str| {
        let value = metadata["annotations"][format!("gateway.networking.k8s.io/{key}")].as_str();
        value.unwrap_or("unknown").to_owned()
    };
    let of = format!(
        "CRD {} (channel {}, version {})",
        text(&metadata["name"]),
        annotation("channel"),
        annotation("bundle-version")
    );
    let Some(serving) = served(found, "v1") else {
        return Some(Fault::error(format!("{of} does not serve v1"), CHANNEL));
    };
    let mut there = BTreeSet::new();
    let schema = &serving["schema"]["openAPIV3Schema"]["properties"]["spec"];
    fields(schema, "spec", &mut there);
    let (used, unused): (Vec<_>, Vec<_>) = known_fields(kind)
        .filter(|(field, _)| !there.contains(*field) && field.starts_with("spec."))
        .partition(|(_, works)| *works);
    let names = |fields: &[(&str, bool)]| {
        let names: Vec<&str> = fields.iter().map(|(field, _)| *field).collect();
        names.join(", ")
    };
    let lacks = match (used.is_empty(), unused.is_empty()) {
        (false, _) => format!("fields that work in Weft: {}", names(&used)),
        (true, false) if annotation("channel") != "experimental" => format!(
            "fields of the experimental channel, none of which Weft uses yet: {}",
            names(&unused)
        ),
        _ => return None,
    };
    Some(Fault::warning(format!("{of} lacks {lacks}"), CHANNEL))
}

/// The fields of a route's kind, and whether each works.
fn known_fields(kind: &str) -> impl Iterator<Item = (&'static str, bool)> {
    let heading = format!("## {kind}");
    let section = CAPABILITIES
        .lines()
        .skip_while(move |line| *line != heading)
        .skip(1);
    let rows = section.take_while(|line| !line.starts_with("## "));
    rows.filter_map(|row| {
        let (field, rest) = row.strip_prefix("| `")?.split_once("` | ")?;
        Some((field, rest.starts_with("works")))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kubernetes_must_know_native_sidecars() {
        let facts = |minor: &str| Facts {
            kubernetes: json!({"major": "1", "minor": minor}),
            ..Facts::default()
        };
        assert!(
            version(&facts("29+"))[0]
                .message
                .contains("1.29; 1.30 is needed")
        );
        assert!(version(&facts("30")).is_empty());
        assert!(version(&facts("35+")).is_empty());
    }

    fn own_crds() -> Vec<Value> {
        let own = weft_api::crd::crds();
        own.into_iter()
            .map(|(_, crd)| serde_json::to_value(crd).unwrap())
            .map(|mut crd| {
                for version in crd["spec"]["versions"].as_array_mut().unwrap() {
                    version["served"] = true.into();
                }
                crd
            })
            .collect()
    }

    #[test]
    fn a_missing_crd_and_one_of_another_version_are_named() {
        let mut facts = Facts {
            crds: own_crds(),
            ..Facts::default()
        };
        assert_eq!(crds(&facts), []);
        let spec = &mut facts.crds[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
            ["spec"];
        let gone: Vec<String> = spec["properties"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        spec["properties"].as_object_mut().unwrap().remove(&gone[0]);
        facts.crds.pop();
        let found = crds(&facts);
        assert!(
            found[0]
                .message
                .contains(&format!("it lacks spec.{}", gone[0])),
            "{found:?}"
        );
        assert!(found[1].message.ends_with(" is missing"), "{found:?}");
    }

    /// A CRD with these fields, each a text.
    fn route_crd(name: &str, channel: &str, fields: impl Iterator<Item = &'static str>) -> Value {
        let mut root = json!({});
        for field in fields {
            let mut at = &mut root;
            for step in field.split('.') {
                let (name, items) = (step.trim_end_matches("[]"), step.ends_with("[]"));
                at = &mut at["properties"][name];
                if items {
                    at = &mut at["items"];
                    if at.is_null() {
                        *at = json!({});
                    }
                }
            }
        }
        json!({
            "metadata": {"name": name, "annotations": {
                "gateway.networking.k8s.io/channel": channel, "gateway.networking.k8s.io/bundle-version": "v1.6.1",
            }},
            "spec": {"versions": [{"name": "v1", "served": true, "schema": {"openAPIV3Schema": root}}]},
        })
    }

    #[test]
    fn what_a_channel_lacks_is_said_field_by_field() {
        let all = |kind| known_fields(kind).map(|(field, _)| field);
        let (http, grpc) = (
            "httproutes.gateway.networking.k8s.io",
            "grpcroutes.gateway.networking.k8s.io",
        );
        let mut facts = Facts {
            crds: vec![
                route_crd(http, "experimental", all("HTTPRoute")),
                route_crd(grpc, "experimental", all("GRPCRoute")),
            ],
            ..Facts::default()
        };
        assert_eq!(gateway_api(&facts), []);
        let without =
            |left_out: &'static str| all("HTTPRoute").filter(move |field| *field != left_out);
        facts.crds[0] = route_crd(
            http,
            "standard",
            without("spec.rules[].sessionPersistence.type"),
        );
        let said = gateway_api(&facts).remove(0).message;
        assert!(
            said.contains("(channel standard, version v1.6.1)")
                && said.ends_with(": spec.rules[].sessionPersistence.type"),
            "{said}"
        );
        facts.crds[0] = route_crd(
            http,
            "standard",
            without("spec.rules[].backendRefs[].weight"),
        );
        let said = gateway_api(&facts).remove(0).message;
        assert!(
            said.ends_with("that work in Weft: spec.rules[].backendRefs[].weight"),
            "{said}"
        );
        facts.crds.remove(1);
        assert!(
            gateway_api(&facts)[1]
                .message
                .contains("there are no GRPCRoutes")
        );
    }
}
