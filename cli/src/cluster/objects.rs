//! Objects of a cluster by themselves: where they are, written by server-side apply, deleted.

use anyhow::{Context, Result};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Cluster, status};

/// Names this tool in the fields that it owns.
const FIELD_MANAGER: &str = "weft";
/// Names `kubectl apply` without `--server-side` in the fields that it owns.
const CLIENT_SIDE: &str = "kubectl-client-side-apply";

/// Group, version and plural name of an object's resource.
pub(crate) fn resource_of(object: &Value) -> (String, String, String) {
    let api = object["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = api.split_once('/').unwrap_or(("", api));
    let kind = object["kind"].as_str().unwrap_or_default();
    let kind = kind.to_ascii_lowercase();
    let plural = match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    };
    (group.to_owned(), version.to_owned(), plural)
}

/// The path of an object at the API server.
pub(crate) fn path_of(object: &Value) -> String {
    let (group, version, plural) = resource_of(object);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let api = match group.as_str() {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{api}/namespaces/{namespace}/{plural}/{name}"),
        None => format!("{api}/{plural}/{name}"),
    }
}

impl Cluster {
    /// Writes the object's fields, taking them from whoever had them; gives the object as it is then, or would be.
    pub(crate) async fn apply(&self, object: &Value, is_trial: bool) -> Result<Value> {
        let trial = if is_trial { "&dryRun=All" } else { "" };
        let path = format!(
            "{}?fieldManager={FIELD_MANAGER}&force=true{trial}",
            path_of(object)
        );
        let body = object.to_string().into_bytes();
        self.ask(Method::PATCH, &path, "application/apply-patch+yaml", body)
            .await
    }

    /// Makes the fields that `kubectl apply` wrote this tool's, so that those which are gone from the manifests go from the
    /// object, too.
    pub(crate) async fn take_over(&self, live: &Value) -> Result<()> {
        let Some(fields) = taken_over(live) else {
            return Ok(());
        };
        let metadata = json!({"resourceVersion": live["metadata"]["resourceVersion"], "managedFields": fields});
        let patch = json!({"metadata": metadata}).to_string().into_bytes();
        let patched = self
            .ask(
                Method::PATCH,
                &path_of(live),
                "application/merge-patch+json",
                patch,
            )
            .await;
        patched
            .map(drop)
            .context("taking the fields over from kubectl")
    }

    /// Deletes what is at the path; whether there was anything.
    pub(crate) async fn delete(&self, path: &str) -> Result<bool> {
        match self.ask(Method::DELETE, path, "", Vec::new()).await {
            Ok(_) => Ok(true),
            Err(error) if status(&error) == Some(StatusCode::NOT_FOUND) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether the object's fields are `kubectl apply`'s until this tool takes them over.
pub(crate) fn is_kept_by_kubectl(live: &Value) -> bool {
    taken_over(live).is_some()
}

/// The owners of an object's fields with this tool in the place of `kubectl apply`; `None` if nothing has to change.
fn taken_over(live: &Value) -> Option<Value> {
    let mut fields = live["metadata"]["managedFields"].as_array()?.clone();
    if fields
        .iter()
        .any(|one| one["manager"] == FIELD_MANAGER && one["operation"] == "Apply")
    {
        return None;
    }
    let theirs = fields.iter_mut().find(|one| {
        one["manager"] == CLIENT_SIDE
            && one["operation"] == "Update"
            && one["subresource"].is_null()
    })?;
    theirs["manager"] = FIELD_MANAGER.into();
    theirs["operation"] = "Apply".into();
    Some(fields.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_where_their_kind_and_namespace_say() {
        let object = |api: &str, kind: &str, metadata: Value| json!({"apiVersion": api, "kind": kind, "metadata": metadata});
        let role = object(
            "rbac.authorization.k8s.io/v1",
            "Role",
            json!({"name": "a", "namespace": "b"}),
        );
        assert_eq!(
            path_of(&role),
            "/apis/rbac.authorization.k8s.io/v1/namespaces/b/roles/a"
        );
        let policy = object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"name": "a", "namespace": "b"}),
        );
        assert!(path_of(&policy).ends_with("/networkpolicies/a"));
        assert_eq!(
            path_of(&object("v1", "Namespace", json!({"name": "a"}))),
            "/api/v1/namespaces/a"
        );
    }

    #[test]
    fn what_kubectl_wrote_is_taken_over_once() {
        let entry = |manager: &str, operation: &str| json!({"manager": manager, "operation": operation, "fieldsV1": {}});
        let object = |fields: Value| json!({"metadata": {"managedFields": fields}});
        let taken = taken_over(&object(json!([
            entry("weft-control-plane", "Apply"),
            entry(CLIENT_SIDE, "Update")
        ])))
        .unwrap();
        assert_eq!(
            taken,
            json!([entry("weft-control-plane", "Apply"), entry("weft", "Apply")])
        );
        assert!(!is_kept_by_kubectl(&object(taken)));
        assert_eq!(taken_over(&object(json!([entry("helm", "Update")]))), None);
    }
}
