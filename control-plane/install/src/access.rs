//! The control plane's account and what it may do: the rules of `manifests/install/rbac.yaml`.

use serde_json::Value;

use crate::{RenderError, Values, labels};

const RULES: &str = include_str!("../../../manifests/install/rbac.yaml");

pub(crate) fn objects(values: &Values) -> Result<Vec<Value>, RenderError> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(RULES)?;
    for object in &mut objects {
        in_namespace(object, &values.namespace);
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("labels".to_owned(), labels(values));
        }
    }
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
