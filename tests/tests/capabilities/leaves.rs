//! A schema → the leaves below `spec`: `spec.rules[].matches[].path.value`, `spec.selector.matchLabels{}`.

use serde_json::Value;
use weft_api::Kind;
use weft_api::schema::{resolve, schema};

/// A field that holds no other fields.
pub struct Leaf {
    pub path: String,
    /// The values that it can have, where the schema lists them.
    pub variants: Vec<Value>,
}

/// All leaves of a kind's `spec`.
pub fn leaves(kind: Kind) -> Vec<Leaf> {
    let root = schema(kind);
    let mut found = Vec::new();
    let spec = &root["properties"]["spec"];
    assert!(!spec.is_null(), "{kind} has no spec");
    walk(&root, spec, "spec".to_owned(), &mut found);
    found
}

fn walk(root: &Value, schema: &Value, path: String, found: &mut Vec<Leaf>) {
    let schema = resolve(root, schema).unwrap_or(schema);
    if let Some(fields) = schema.get("properties").and_then(Value::as_object) {
        for (name, field) in fields {
            walk(root, field, format!("{path}.{name}"), found);
        }
    } else if let Some(items) = schema.get("items") {
        walk(root, items, format!("{path}[]"), found);
    } else if let Some(values) = schema.get("additionalProperties").filter(|v| v.is_object()) {
        walk(root, values, format!("{path}{{}}"), found);
    } else {
        let listed = schema.get("enum").and_then(Value::as_array);
        let described = schema.get("oneOf").and_then(Value::as_array);
        let described = described.into_iter().flatten();
        let described = described.flat_map(|one| match &one["enum"] {
            Value::Array(values) => values.clone(),
            _ => one.get("const").cloned().into_iter().collect(),
        });
        let variants = listed.into_iter().flatten().cloned().chain(described);
        let variants = variants.filter(|variant| !variant.is_null()).collect();
        found.push(Leaf { path, variants });
    }
}
