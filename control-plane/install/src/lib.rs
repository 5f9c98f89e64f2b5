//! What is installed in a cluster: the one source of `weft install`, and of whatever else is rendered.
//!
//! Typed [`Values`] in, Kubernetes objects out, in the order in which they are applied. Pure. Rules
//! for the control plane's account are in `manifests/install/rbac.yaml`, CRDs come from `weft-api`.
//!
//! A chart is the same call with placeholders for values: every value is a leaf of [`Values`], and
//! no object is made of one in another way than by putting it in a place.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access;
mod chart;
mod control_plane;
mod found;
mod kustomize;
pub mod names;
mod network_policies;
mod values;
mod webhook;

use serde_json::{Value, json};

pub use chart::chart;
pub use found::{Found, NotFound, api_server_policy};
pub use kustomize::kustomization;
pub use values::{ControlPlane, Image, Proxy, SetError, Values, Webhook};

/// Every object, in the order in which they are applied: what others refer to comes first.
///
/// # Errors
/// Only if a file that is part of the program cannot be read as YAML.
pub fn objects(values: &Values) -> Result<Vec<Value>, RenderError> {
    let mut objects = Vec::new();
    if values.create_namespace {
        objects.push(namespace(values));
    }
    if values.crds {
        for (_, mut crd) in weft_api::crd::crds() {
            // `helm uninstall` leaves it: with it would go everybody's policies.
            let annotations = crd.metadata.annotations.get_or_insert_default();
            annotations.insert("helm.sh/resource-policy".to_owned(), "keep".to_owned());
            objects.push(serde_json::to_value(crd)?);
        }
    }
    objects.extend(access::objects(values)?);
    objects.extend(control_plane::objects(values));
    if values.network_policies {
        objects.extend(network_policies::objects(values));
    }
    // Last: from then on, pods of the mesh wait for the control plane.
    objects.push(webhook::configuration(values));
    Ok(objects)
}

/// The objects as one stream of YAML.
///
/// # Errors
/// An object cannot be written as YAML.
pub fn to_yaml(objects: &[Value]) -> Result<String, RenderError> {
    let documents = objects.iter().map(|object| {
        let yaml = serde_saphyr::to_string(object)?;
        Ok(format!("---\n{yaml}"))
    });
    documents.collect()
}

/// The manifests cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// An object as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A file of the program.
    #[error("manifests/install: {0}")]
    File(#[from] serde_saphyr::Error),
    /// An object as YAML.
    #[error(transparent)]
    Yaml(#[from] serde_saphyr::SerializeError),
}

fn namespace(values: &Values) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": values.namespace,
            "labels": {
                "app.kubernetes.io/part-of": "weft",
                "pod-security.kubernetes.io/enforce": "restricted",
            },
        },
    })
}

/// Name, namespace and labels of an object of the control plane.
fn metadata(values: &Values, name: &str) -> Value {
    json!({"name": name, "namespace": values.namespace, "labels": labels(values)})
}

fn labels(values: &Values) -> Value {
    json!({
        "app.kubernetes.io/name": names::CONTROL_PLANE,
        "app.kubernetes.io/part-of": "weft",
        "app.kubernetes.io/version": values.image.tag,
    })
}

/// The control plane's pods.
fn selector() -> Value {
    json!({"app.kubernetes.io/name": names::CONTROL_PLANE})
}
