//! The control plane's account and what it may do: the rules of `manifests/install/rbac.yaml`.

use serde_json::{Value, json};

use crate::{RenderError, Values, metadata, names};

const RULES: &str = include_str!("../../../manifests/install/rbac.yaml");

pub(crate) fn objects(values: &Values) -> Result<Vec<Value>, RenderError> {
    let mut objects = vec![json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(values, names::CONTROL_PLANE),
    })];
    let mut rules: Vec<Value> = serde_saphyr::from_multiple(RULES)?;
    for object in &mut rules {
        in_namespace(object, &values.namespace);
    }
    objects.extend(rules);
    Ok(objects)
}

/// Puts the namespace where the file has its default.
fn in_namespace(object: &mut Value, namespace: &str) {
    let mut places = Vec::new();
    for (field, value) in object.as_object_mut().into_iter().flatten() {
        match value {
            Value::Object(_) if field == "metadata" => places.push(value),
            Value::Array(subjects) if field == "subjects" => places.extend(subjects),
            _ => {}
        }
    }
    for place in places {
        if let Some(written) = place.get_mut("namespace") {
            *written = namespace.into();
        }
    }
}
