//! Finds fields that a type does not have: what of the raw value does not come back when the typed
//! one is serialised again.
//!
//! A known field may stay away too, because it holds a default or nothing. So each absent field is
//! probed: a map that no field expects takes its place, and the value is read again. A field that
//! the type has refuses the probe or gives back something; one that it does not have is ignored.

use serde_json::{Map, Value};

use crate::field_path::FieldPath;
use crate::{ApiObject, Kind};

/// The paths of all fields of `raw` that `typed`, which was read from it, does not have.
pub(crate) fn unknown_fields(kind: Kind, raw: &Value, typed: &ApiObject) -> Vec<FieldPath> {
    let Ok(back) = typed.to_value() else {
        return Vec::new();
    };
    let mut absent = Vec::new();
    collect_absent(&FieldPath::root(), raw, &back, &mut absent);
    absent.retain(|path| is_unknown(kind, raw, path));
    absent
}

/// Collects the topmost paths that are in `raw` and not in `back`. Scalars that come back in
/// another form (quantities, timestamps) came back.
fn collect_absent(at: &FieldPath, raw: &Value, back: &Value, absent: &mut Vec<FieldPath>) {
    match (raw, back) {
        (Value::Object(raw), Value::Object(back)) => {
            for (key, value) in raw {
                let path = at.key(key);
                match back.get(key) {
                    Some(back) => collect_absent(&path, value, back, absent),
                    None => absent.push(path),
                }
            }
        }
        (Value::Array(raw), Value::Array(back)) => {
            for (index, (raw, back)) in raw.iter().zip(back).enumerate() {
                collect_absent(&at.index(index), raw, back, absent);
            }
        }
        _ => {}
    }
}

/// Whether the type ignores whatever stands at `path`.
fn is_unknown(kind: Kind, raw: &Value, path: &FieldPath) -> bool {
    let mut probed = raw.clone();
    let Some(place) = path.find_mut(&mut probed) else {
        return false;
    };
    *place = Value::Object(Map::from_iter([(
        "weft.dev/probe".to_owned(),
        Value::from(1),
    )]));
    match ApiObject::from_value(kind, &probed) {
        Err(_) => false,
        Ok(object) => object
            .to_value()
            .is_ok_and(|back| path.find(&back).is_none()),
    }
}
