//! What changes between two states of an object, field by field. Items of a list that have names are known by them.

use serde_json::Value;

/// Fields that change with every write, or tell of it.
const NOISE: [&str; 7] = [
    "metadata.managedFields",
    "metadata.resourceVersion",
    "metadata.generation",
    "metadata.uid",
    "metadata.creationTimestamp",
    "metadata.annotations[kubectl.kubernetes.io/last-applied-configuration]",
    "status",
];
/// What `kubectl apply` wrote last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A field, before and after; `None` where it is not there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    path: String,
    before: Option<Value>,
    after: Option<Value>,
}

impl Change {
    /// `  ~ spec.replicas: 1 → 3`
    pub(super) fn line(&self) -> String {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => format!("  ~ {}: {before} → {after}\n", self.path),
            (None, Some(after)) => format!("  + {}: {after}\n", self.path),
            (Some(before), None) => format!("  - {}: {before}\n", self.path),
            (None, None) => String::new(),
        }
    }
}

/// Every difference.
pub(super) fn between(before: &Value, after: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    walk("", Some(before), Some(after), &mut changes);
    changes
}

/// What `kubectl apply` wrote and is wanted no more.
pub(super) fn dropped(live: &Value, wanted: &Value) -> Vec<Change> {
    let written = live["metadata"]["annotations"][LAST_APPLIED].as_str();
    let written: Option<Value> = written.and_then(|text| serde_json::from_str(text).ok());
    let Some(written) = written else {
        return Vec::new();
    };
    let mut changes = between(&written, wanted);
    // Null where the other says nothing, as for an empty map.
    changes.retain(|change| {
        change.after.is_none()
            && change
                .before
                .as_ref()
                .is_some_and(|before| !is_empty(before))
    });
    changes
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn walk(path: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    if NOISE.contains(&path) || before == after {
        return;
    }
    match (before, after) {
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let new = other.keys().filter(|key| !one.contains_key(*key));
            for key in one.keys().chain(new) {
                walk(&step(path, key), one.get(key), other.get(key), changes);
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) => match (names(one), names(other)) {
            (Some(old), Some(new)) => {
                let item = |items: &'_ [Value], names: &[&str], name: &str| -> Option<Value> {
                    let index = names.iter().position(|one| *one == name)?;
                    items.get(index).cloned()
                };
                let added = new.iter().filter(|name| !old.contains(name));
                for name in old.iter().chain(added) {
                    let (before, after) = (item(one, &old, name), item(other, &new, name));
                    walk(
                        &format!("{path}[{name}]"),
                        before.as_ref(),
                        after.as_ref(),
                        changes,
                    );
                }
            }
            _ => record(path, before, after, changes),
        },
        _ => record(path, before, after, changes),
    }
}

fn record(path: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    changes.push(Change {
        path: path.to_owned(),
        before: before.cloned(),
        after: after.cloned(),
    });
}

/// A key that is a name of somebody else's is set off.
fn step(path: &str, key: &str) -> String {
    match (path, key.contains(['.', '/'])) {
        ("", _) => key.to_owned(),
        (path, true) => format!("{path}[{key}]"),
        (path, false) => format!("{path}.{key}"),
    }
}

/// The names of a list's items, if each has one of its own.
fn names(items: &[Value]) -> Option<Vec<&str>> {
    let names: Option<Vec<&str>> = items.iter().map(|item| item["name"].as_str()).collect();
    let names = names?;
    let mut distinct = names.clone();
    distinct.sort_unstable();
    distinct.dedup();
    (distinct.len() == names.len()).then_some(names)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_named_by_field() {
        let object = |image: &str, replicas: u32, env: Value| {
            json!({
                "metadata": {"resourceVersion": image, "labels": {"app.kubernetes.io/version": image}},
                "spec": {"replicas": replicas, "containers": [{"name": "it", "image": image, "args": ["run"], "env": env}]},
            })
        };
        let before = object(
            "a",
            1,
            json!([{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]),
        );
        let after = object(
            "b",
            3,
            json!([{"name": "Y", "value": "2"}, {"name": "Z", "value": "3"}]),
        );
        let lines: String = between(&before, &after).iter().map(Change::line).collect();
        assert_eq!(
            lines,
            "  ~ metadata.labels[app.kubernetes.io/version]: \"a\" → \"b\"\n\
             \x20 ~ spec.replicas: 1 → 3\n\
             \x20 ~ spec.containers[it].image: \"a\" → \"b\"\n\
             \x20 - spec.containers[it].env[X]: {\"name\":\"X\",\"value\":\"1\"}\n\
             \x20 + spec.containers[it].env[Z]: {\"name\":\"Z\",\"value\":\"3\"}\n"
        );
        assert_eq!(between(&before, &before), []);
    }

    #[test]
    fn what_is_wanted_no_more_is_known_by_what_was_written() {
        let written = json!({"spec": {"a": 1, "b": {"c": 2}, "d": {}}}).to_string();
        let live = json!({"metadata": {"annotations": {(LAST_APPLIED): written}}, "spec": {"a": 1, "b": {"c": 2, "theirs": 3}}});
        let lines: String = dropped(&live, &json!({"spec": {"a": 4}}))
            .iter()
            .map(Change::line)
            .collect();
        assert_eq!(lines, "  - spec.b: {\"c\":2}\n");
    }
}
