//! XMesh objects of the Gateway API that name this controller: accepted, and told what works.
//!
//! An experimental kind of which there is one object, if any: the leader looks at it now and then,
//! and nobody watches it.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout_at};
use weft_model::CONTROLLER;

use super::condition::Condition;
use super::merge::difference;
use super::{Desired, MANAGER};
use crate::kubernetes::Outage;
use crate::kubernetes::lease::Leadership;

/// From one look to the next.
const TICK: Duration = Duration::from_secs(15);

/// What works, by the names of the Gateway API (`pkg/features`), in the order that it asks for.
const FEATURES: [&str; 29] = [
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "Mesh",
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteNamedRouteRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
];

/// Keeps the status of these objects.
pub(crate) struct MeshObjects {
    objects: Api<DynamicObject>,
    leadership: watch::Receiver<Leadership>,
}

impl MeshObjects {
    pub fn new(client: Client, leadership: watch::Receiver<Leadership>) -> Self {
        let kind = GroupVersionKind::gvk("gateway.networking.x-k8s.io", "v1alpha1", "XMesh");
        let resource = ApiResource::from_gvk_with_plural(&kind, "xmeshes");
        Self {
            objects: Api::all_with(client, &resource),
            leadership,
        }
    }

    /// Keeps for ever.
    pub async fn keep(&self) {
        let mut leadership = self.leadership.clone();
        let mut outage = Outage::default();
        loop {
            // An error means that everything is being dropped.
            let _ = leadership.wait_for(Leadership::leads).await;
            outage.note("status of XMesh", &self.look().await);
            sleep(TICK).await;
        }
    }

    async fn look(&self) -> anyhow::Result<()> {
        let deadline = self.leadership.borrow().deadline();
        let deadline = deadline.context("this replica leads no longer")?;
        let params = ListParams::default();
        let listed = timeout_at(deadline, self.objects.list(&params)).await;
        let listed = match listed.context("the API server does not answer")? {
            Ok(listed) => listed,
            // There is no such kind.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        for object in listed.items {
            let generation = object.metadata.generation.unwrap_or(0);
            let generation = generation.try_into().unwrap_or(0);
            let (Some(status), Some(name)) = (
                difference_of(&object.data, generation, &now),
                &object.metadata.name,
            ) else {
                continue;
            };
            let params = PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            let patch = Patch::Merge(json!({
                "metadata": {"resourceVersion": object.metadata.resource_version},
                "status": status,
            }));
            let patched = self.objects.patch_status(name, &params, &patch);
            let answer = timeout_at(deadline, patched).await;
            answer
                .context("the API server does not answer")?
                .with_context(|| format!("XMesh {name} cannot be written"))?;
        }
        Ok(())
    }
}

/// What to write into the status of an object; nothing where it is another controller's, or says
/// all that it should.
fn difference_of(object: &Value, generation: u64, now: &str) -> Option<Value> {
    let spec = &object["spec"];
    if spec["controllerName"] != CONTROLLER {
        return None;
    }
    let accepted = match &spec["parametersRef"] {
        Value::Null => ("Accepted", "this mesh is Weft's"),
        _ => (
            "InvalidParameters",
            "spec.parametersRef: there are no parameters here; what holds for the whole mesh is in the MeshConfig",
        ),
    };
    let (reason, message) = accepted;
    let is_accepted = reason == "Accepted";
    let accepted = Condition::new("Accepted", is_accepted, reason, message, generation);
    let status = &object["status"];
    let conditions = difference(status, &Desired::Conditions(vec![accepted]), now);
    let features: Vec<Value> = FEATURES.iter().map(|name| json!({"name": name})).collect();
    let features = Value::from(features);
    if conditions.is_none() && status["supportedFeatures"] == features {
        return None;
    }
    let mut written = conditions.unwrap_or_else(|| json!({}));
    written["supportedFeatures"] = features;
    Some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(controller: &str) -> Value {
        json!({"spec": {"controllerName": controller}})
    }

    #[test]
    fn features_are_in_order_and_each_once() {
        assert!(FEATURES.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn ours_is_told_once_and_others_nothing() {
        assert_eq!(difference_of(&mesh("example.com/mesh"), 1, "1"), None);
        let mut ours = mesh(CONTROLLER);
        ours["status"] = difference_of(&ours, 1, "1").unwrap();
        assert_eq!(ours["status"]["conditions"][0]["status"], "True");
        assert_eq!(difference_of(&ours, 1, "2"), None);
        ours["status"]["supportedFeatures"][0] = json!({"name": "Other"});
        let written = difference_of(&ours, 1, "2").unwrap();
        assert_eq!(written["supportedFeatures"][0]["name"], "GRPCRoute");
        assert_eq!(written["conditions"], Value::Null, "they stay");
    }

    #[test]
    fn parameters_are_refused() {
        let mut ours = mesh(CONTROLLER);
        ours["spec"]["parametersRef"] = json!({"name": "x"});
        let written = difference_of(&ours, 4, "1").unwrap();
        let accepted = &written["conditions"][0];
        assert_eq!(accepted["reason"], "InvalidParameters");
        assert_eq!(accepted["observedGeneration"], 4);
    }
}
