//! Where a leaf stands in an object, and what an object becomes when one value of it is another.

use serde_json::Value;
use weft_api::{FieldPath, Segment};

/// One step of a leaf's path.
enum Step<'a> {
    Key(&'a str),
    /// Any item of a list, `[]`.
    Item,
    /// Any entry of a map, `{}`.
    Entry,
}

fn steps(leaf: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for part in leaf.split('.') {
        let mut name = part;
        let mut after = Vec::new();
        while let Some((rest, step)) = (name.strip_suffix("[]").map(|rest| (rest, Step::Item)))
            .or_else(|| name.strip_suffix("{}").map(|rest| (rest, Step::Entry)))
        {
            name = rest;
            after.push(step);
        }
        steps.push(Step::Key(name));
        steps.extend(after.into_iter().rev());
    }
    steps
}

/// The places of an object that a leaf's path leads to.
pub fn places(object: &Value, leaf: &str) -> Vec<FieldPath> {
    let mut reached = vec![(FieldPath::root(), object)];
    for step in steps(leaf) {
        reached = reached
            .into_iter()
            .flat_map(|(path, value)| below(path, value, &step))
            .collect();
    }
    reached.into_iter().map(|(path, _)| path).collect()
}

fn below<'a>(path: FieldPath, value: &'a Value, step: &Step<'_>) -> Vec<(FieldPath, &'a Value)> {
    match (step, value) {
        (Step::Key(key), Value::Object(map)) => {
            let value = map.get(*key);
            value
                .map(|value| (path.key(*key), value))
                .into_iter()
                .collect()
        }
        (Step::Item, Value::Array(items)) => {
            let items = items.iter().enumerate();
            items.map(|(at, item)| (path.index(at), item)).collect()
        }
        (Step::Entry, Value::Object(map)) => map
            .iter()
            .map(|(key, value)| (path.key(key), value))
            .collect(),
        _ => Vec::new(),
    }
}

/// Every leaf of an object as a path, list positions and map keys (as far as `is_map` says) left out.
pub fn leaves_of(object: &Value, is_map: fn(&str) -> bool) -> Vec<String> {
    fn walk(value: &Value, path: String, is_map: fn(&str) -> bool, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let path = match path.as_str() {
                        "" => key.clone(),
                        path if is_map(path) => format!("{path}{{}}"),
                        path => format!("{path}.{key}"),
                    };
                    walk(value, path, is_map, found);
                }
            }
            Value::Array(items) => {
                for item in items {
                    walk(item, format!("{path}[]"), is_map, found);
                }
            }
            _ => found.push(path),
        }
    }
    let mut found = Vec::new();
    walk(object, String::new(), is_map, &mut found);
    found.sort();
    found.dedup();
    found
}

/// The object without the value at `place`.
pub fn without(object: &Value, place: &FieldPath) -> Option<Value> {
    let mut object = object.clone();
    match (
        place.parent()?.find_mut(&mut object)?,
        place.segments().last()?,
    ) {
        (Value::Object(map), Segment::Key(key)) => drop(map.remove(key)),
        (Value::Array(items), Segment::Index(at)) => drop(items.remove(*at)),
        _ => return None,
    }
    Some(object)
}

/// The object with another value at `place`.
pub fn with(object: &Value, place: &FieldPath, value: Value) -> Option<Value> {
    let mut object = object.clone();
    *place.find_mut(&mut object)? = value;
    Some(object)
}

/// Other values that might do as well as `value`.
pub fn alternatives(value: &Value, variants: &[Value], names: &[Value]) -> Vec<Value> {
    let mut all: Vec<Value> = variants.to_vec();
    match value {
        Value::Bool(set) => all.push((!set).into()),
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or(0);
            all.extend([number + 1, number - 1].map(Value::from));
            all.extend(names.iter().filter(|name| name.is_number()).cloned());
        }
        Value::String(text) => {
            let digits = || text.char_indices().filter(|(_, c)| c.is_ascii_digit());
            for (at, digit) in digits().next_back().into_iter().chain(digits().next()) {
                for other in ['1', '2', '9', '0'] {
                    if other != digit {
                        let mut text = text.clone();
                        text.replace_range(at..=at, other.encode_utf8(&mut [0; 4]));
                        all.push(text.into());
                    }
                }
            }
            all.extend([format!("{text}x"), format!("x{text}")].map(Value::from));
            all.extend(names.iter().filter(|name| name.is_string()).cloned());
        }
        _ => {}
    }
    all.retain(|other| other != value);
    all
}
