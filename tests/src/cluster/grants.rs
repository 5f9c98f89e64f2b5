//! What the control plane's account may do (`manifests/install/rbac.yaml`), and what the API server's
//! audit log says that it did: both should be the same.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

/// Who asks.
const ACCOUNT: &str = "system:serviceaccount:weft-system:weft-control-plane";

/// One verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Only in this namespace.
    namespace: Option<String>,
    group: String,
    /// With its subresource, `RESOURCE/SUBRESOURCE`.
    resource: String,
    /// Only of this name.
    name: Option<String>,
    verb: String,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => f.write_str(" everywhere"),
        }
    }
}

/// All grants of the file.
pub fn granted() -> anyhow::Result<BTreeSet<Grant>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/install/rbac.yaml");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    Ok(objects.iter().flat_map(of_object).collect())
}

fn of_object(object: &Value) -> Vec<Grant> {
    let namespace = object["metadata"]["namespace"].as_str();
    let rules = object["rules"].as_array().into_iter().flatten();
    rules.flat_map(|rule| of_rule(namespace, rule)).collect()
}

fn of_rule(namespace: Option<&str>, rule: &Value) -> Vec<Grant> {
    let words = |field: &str| -> Vec<&str> {
        let list = rule[field].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).collect()
    };
    let mut names: Vec<Option<&str>> = words("resourceNames").into_iter().map(Some).collect();
    if names.is_empty() {
        names.push(None);
    }
    let mut grants = Vec::new();
    for group in words("apiGroups") {
        for resource in words("resources") {
            for name in &names {
                for verb in words("verbs") {
                    grants.push(Grant {
                        namespace: namespace.map(str::to_owned),
                        group: group.to_owned(),
                        resource: resource.to_owned(),
                        name: name.map(str::to_owned),
                        verb: verb.to_owned(),
                    });
                }
            }
        }
    }
    grants
}

/// What the log has of the account.
#[derive(Debug, Default)]
pub struct Asked {
    requests: BTreeSet<Request>,
    /// What was not allowed.
    denied: BTreeSet<Request>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    namespace: String,
    group: String,
    resource: String,
    name: String,
    verb: String,
}

/// Reads the log's entries.
pub fn asked(log: &[Value]) -> Asked {
    let mut asked = Asked::default();
    for entry in log.iter().filter(|one| one["user"]["username"] == ACCOUNT) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &entry["objectRef"];
        if object.is_null() {
            // Not about a resource: nothing that has to be granted.
            continue;
        }
        let mut resource = text(&object["resource"]);
        if let Some(sub) = object["subresource"].as_str() {
            resource = format!("{resource}/{sub}");
        }
        let request = |verb: String| Request {
            namespace: text(&object["namespace"]),
            group: text(&object["apiGroup"]),
            resource: resource.clone(),
            name: text(&object["name"]),
            verb,
        };
        if entry["annotations"]["authorization.k8s.io/decision"] == "forbid" {
            asked.denied.insert(request(text(&entry["verb"])));
            continue;
        }
        // What is applied and is not there yet has to be granted as created, too.
        if entry["verb"] == "patch" && entry["responseStatus"]["code"] == 201 {
            asked.requests.insert(request("create".to_owned()));
        }
        asked.requests.insert(request(text(&entry["verb"])));
    }
    asked
}

impl Asked {
    /// What was denied and is not granted: an API server that has just started denies for a moment
    /// what is.
    pub fn not_granted(&self, grants: &BTreeSet<Grant>) -> Vec<String> {
        let is_granted = |asked: &Request| grants.iter().any(|grant| needs(asked, grant));
        let denied = self.denied.iter().filter(|asked| !is_granted(asked));
        denied.map(|asked| format!("{asked:?}")).collect()
    }

    /// Which of the grants nobody made use of.
    pub fn unused<'a>(&self, grants: &'a BTreeSet<Grant>) -> Vec<&'a Grant> {
        let is_used = |grant: &&Grant| !self.requests.iter().any(|asked| needs(asked, grant));
        grants.iter().filter(is_used).collect()
    }
}

fn needs(asked: &Request, grant: &Grant) -> bool {
    let namespace = grant.namespace.as_ref();
    asked.verb == grant.verb
        && asked.resource == grant.resource
        && asked.group == grant.group
        && grant.name.as_ref().is_none_or(|name| *name == asked.name)
        && namespace.is_none_or(|namespace| *namespace == asked.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(verb: &str, code: u16, decision: &str) -> Value {
        json!({
            "verb": verb, "requestURI": "/u",
            "user": {"username": ACCOUNT},
            "objectRef": {"resource": "configmaps", "namespace": "shop", "name": "weft-trust"},
            "responseStatus": {"code": code},
            "annotations": {"authorization.k8s.io/decision": decision},
        })
    }

    fn rule(verbs: &[&str], name: &str) -> BTreeSet<Grant> {
        let rule = json!({
            "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": verbs,
        });
        of_rule(None, &rule).into_iter().collect()
    }

    #[test]
    fn a_grant_is_used_by_what_it_was_needed_for() {
        let log = [entry("patch", 201, "allow"), entry("list", 200, "allow")];
        let asked = asked(&log);
        let verbs = ["create", "list", "patch", "watch"];
        let grants = rule(&verbs, "weft-trust");
        let unused = asked.unused(&grants);
        let unused: Vec<String> = unused.iter().map(ToString::to_string).collect();
        assert_eq!(unused, ["watch configmaps weft-trust everywhere"]);
        assert_eq!(asked.unused(&rule(&verbs, "other")).len(), 4);
        assert!(asked.not_granted(&grants).is_empty());
    }

    #[test]
    fn what_was_denied_is_named() {
        let asked = asked(&[entry("get", 403, "forbid")]);
        assert_eq!(asked.not_granted(&rule(&["list"], "weft-trust")).len(), 1);
        let granted = rule(&["get"], "weft-trust");
        assert!(asked.not_granted(&granted).is_empty());
        assert_eq!(asked.unused(&granted).len(), 1);
    }

    #[test]
    fn the_file_grants_something() {
        let granted = granted().unwrap();
        let leader = granted.iter().map(ToString::to_string);
        let wanted = "update leases.coordination.k8s.io weft-leader in weft-system";
        assert_eq!(leader.filter(|grant| grant == wanted).count(), 1);
    }
}
