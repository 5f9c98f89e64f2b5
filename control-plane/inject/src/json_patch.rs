//! From one JSON value to another as a JSON patch (RFC 6902): `add`, `remove`, `replace`.

use serde_json::{Map, Value, json};

/// Operations that make `from` equal `to`; none where they are equal.
pub(crate) fn difference(from: &Value, to: &Value) -> Vec<Value> {
    let mut patch = Vec::new();
    values("", from, to, &mut patch);
    patch
}

fn values(at: &str, from: &Value, to: &Value, patch: &mut Vec<Value>) {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => maps(at, from, to, patch),
        (Value::Array(from), Value::Array(to)) => lists(at, from, to, patch),
        _ if from == to => {}
        _ => patch.push(json!({"op": "replace", "path": at, "value": to})),
    }
}

fn maps(at: &str, from: &Map<String, Value>, to: &Map<String, Value>, patch: &mut Vec<Value>) {
    let below = |key: &str| format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.push(json!({"op": "remove", "path": below(key)}));
    }
    for (key, to) in to {
        match from.get(key) {
            Some(from) => values(&below(key), from, to, patch),
            None => patch.push(json!({"op": "add", "path": below(key), "value": to})),
        }
    }
}

/// What stays at the beginning and at the end stays; of the part between, items are paired in their
/// order and the rest is added or removed.
fn lists(at: &str, from: &[Value], to: &[Value], patch: &mut Vec<Value>) {
    let same = |(a, b): &(&Value, &Value)| a == b;
    let front = from.iter().zip(to).take_while(same).count();
    let (from, to) = (&from[front..], &to[front..]);
    let back = from
        .iter()
        .rev()
        .zip(to.iter().rev())
        .take_while(same)
        .count();
    let (from, to) = (&from[..from.len() - back], &to[..to.len() - back]);
    let pairs = from.len().min(to.len());
    for (index, (from, to)) in from.iter().zip(to).enumerate() {
        values(&format!("{at}/{}", front + index), from, to, patch);
    }
    for index in (pairs..from.len()).rev() {
        patch.push(json!({"op": "remove", "path": format!("{at}/{}", front + index)}));
    }
    for (index, value) in to.iter().enumerate().skip(pairs) {
        patch.push(json!({"op": "add", "path": format!("{at}/{}", front + index), "value": value}));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6902 as the API server does it, for the operations that are made here.
    fn apply(value: &mut Value, patch: &[Value]) {
        for operation in patch {
            let path = operation["path"].as_str().unwrap();
            let Some((parent, last)) = path.rsplit_once('/') else {
                *value = operation["value"].clone();
                continue;
            };
            let last = last.replace("~1", "/").replace("~0", "~");
            let new = operation["value"].clone();
            match (
                value.pointer_mut(parent).unwrap(),
                operation["op"].as_str().unwrap(),
            ) {
                (Value::Object(map), "remove") => drop(map.shift_remove(&last).unwrap()),
                (Value::Object(map), _) => drop(map.insert(last, new)),
                (Value::Array(list), "remove") => drop(list.remove(last.parse().unwrap())),
                (Value::Array(list), "add") => list.insert(last.parse().unwrap(), new),
                (Value::Array(list), _) => list[last.parse::<usize>().unwrap()] = new,
                (other, _) => panic!("{path} is in {other}"),
            }
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            (0..4).prop_map(Value::from),
            "[ab/~]{0,2}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[ab/~]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn applied_to_the_first_it_gives_the_second(from in json_value(), to in json_value()) {
            let patch = difference(&from, &to);
            let mut patched = from.clone();
            apply(&mut patched, &patch);
            prop_assert_eq!(&patched, &to);
            prop_assert_eq!(patch.is_empty(), from == to);
        }
    }

    #[test]
    fn what_is_put_in_front_is_added_and_nothing_else_repeated() {
        let patch = difference(&json!({"a/b": [1, 2]}), &json!({"a/b": [8, 9, 1, 2]}));
        assert_eq!(
            patch,
            [
                json!({"op": "add", "path": "/a~1b/0", "value": 8}),
                json!({"op": "add", "path": "/a~1b/1", "value": 9}),
            ]
        );
    }
}
