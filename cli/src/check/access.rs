//! Who may do what: the control plane what its roles are to grant, the person what an installation takes. The API server
//! decides, one review per verb and resource.

use anyhow::Result;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use http::Method;
use serde_json::{Value, json};
use weft_install::names::CONTROL_PLANE;
use weft_install::{Values, objects};

use super::facts::{Access, list, text};
use crate::cluster::{Cluster, resource_of};

/// A question for the API server.
pub(crate) struct Question {
    what: String,
    /// `subjectaccessreviews` or `selfsubjectaccessreviews`.
    resource: &'static str,
    spec: Value,
}

/// Every verb that the roles of an installation grant, asked for the control plane's account.
pub(crate) fn of_control_plane(system: &str) -> Result<Vec<Question>> {
    let user = format!("system:serviceaccount:{system}:{CONTROL_PLANE}");
    let groups = json!([
        "system:serviceaccounts",
        format!("system:serviceaccounts:{system}"),
        "system:authenticated"
    ]);
    let mut questions = Vec::new();
    for role in installed(system)? {
        let namespace = match text(&role["kind"]) {
            "ClusterRole" => "",
            "Role" => system,
            _ => continue,
        };
        for rule in list(&role["rules"]) {
            for attributes in granted(rule, namespace) {
                questions.push(Question {
                    what: in_words(&attributes),
                    resource: "subjectaccessreviews",
                    spec: json!({"user": user, "groups": groups, "resourceAttributes": attributes}),
                });
            }
        }
    }
    Ok(questions)
}

/// Every object of an installation, asked whether the person may create it.
pub(crate) fn of_installer(system: &str) -> Result<Vec<Question>> {
    let mut questions: Vec<Question> = Vec::new();
    for object in installed(system)? {
        let (group, _, resource) = resource_of(&object);
        let namespace = text(&object["metadata"]["namespace"]);
        let attributes =
            json!({"group": group, "resource": resource, "verb": "create", "namespace": namespace});
        let what = in_words(&attributes);
        if questions.iter().all(|one| one.what != what) {
            questions.push(Question {
                what,
                resource: "selfsubjectaccessreviews",
                spec: json!({"resourceAttributes": attributes}),
            });
        }
    }
    Ok(questions)
}

fn installed(system: &str) -> Result<Vec<Value>> {
    let namespace = format!("namespace={system}");
    Ok(objects(&Values::with([namespace.as_str()])?)?)
}

/// The attributes of each request that a rule of a role grants.
fn granted(rule: &Value, namespace: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let nameless = [Value::Null];
    let names = rule["resourceNames"]
        .as_array()
        .map_or(&nameless[..], Vec::as_slice);
    for group in list(&rule["apiGroups"]) {
        for resource in list(&rule["resources"]) {
            let (resource, subresource) = text(resource)
                .split_once('/')
                .unwrap_or((text(resource), ""));
            for (verb, name) in
                list(&rule["verbs"]).flat_map(|verb| names.iter().map(move |name| (verb, name)))
            {
                all.push(json!({
                    "group": group, "resource": resource, "subresource": subresource, "verb": verb,
                    "namespace": namespace, "name": text(name),
                }));
            }
        }
    }
    all
}

/// `list httproutes.gateway.networking.k8s.io`, `get secrets weft-ca in weft-system`
fn in_words(attributes: &Value) -> String {
    let mut out = format!(
        "{} {}",
        text(&attributes["verb"]),
        text(&attributes["resource"])
    );
    for (before, field) in [
        ("/", "subresource"),
        (".", "group"),
        (" ", "name"),
        (" in ", "namespace"),
    ] {
        let value = text(&attributes[field]);
        if !value.is_empty() {
            out += &format!("{before}{value}");
        }
    }
    out
}

/// Asks them all, a few at a time.
pub(crate) async fn ask(
    cluster: &Cluster,
    questions: Vec<Question>,
    at_once: usize,
) -> Result<Vec<Access>> {
    let answers = questions.into_iter().map(|question| async move {
        let kind = match question.resource {
            "subjectaccessreviews" => "SubjectAccessReview",
            _ => "SelfSubjectAccessReview",
        };
        let review =
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": question.spec});
        let path = format!("/apis/authorization.k8s.io/v1/{}", question.resource);
        let answer = cluster
            .ask(
                Method::POST,
                &path,
                "application/json",
                review.to_string().into_bytes(),
            )
            .await?;
        let is_allowed = answer["status"]["allowed"] == true;
        anyhow::Ok(Access {
            what: question.what,
            is_allowed,
        })
    });
    stream::iter(answers).buffered(at_once).try_collect().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_the_roles_grant_is_asked_for() {
        let words: Vec<String> = of_control_plane("mesh")
            .unwrap()
            .into_iter()
            .map(|one| one.what)
            .collect();
        for expected in [
            "watch pods",
            "patch httproutes/status.gateway.networking.k8s.io",
            "get secrets weft-ca in mesh",
            "create leases.coordination.k8s.io in mesh",
        ] {
            assert!(
                words.iter().any(|one| one == expected),
                "{expected}: {words:?}"
            );
        }
        let words: Vec<String> = of_installer("mesh")
            .unwrap()
            .into_iter()
            .map(|one| one.what)
            .collect();
        assert!(
            words.contains(&"create deployments.apps in mesh".to_owned()),
            "{words:?}"
        );
        assert!(
            words.contains(
                &"create mutatingwebhookconfigurations.admissionregistration.k8s.io".to_owned()
            ),
            "{words:?}"
        );
    }
}
