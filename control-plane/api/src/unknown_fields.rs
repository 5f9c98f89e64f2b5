//! What of a raw value its type does not account for.
//!
//! Fields that the type does not have: what of the raw value does not come back when the typed
//! one is serialised again.
//!
//! A known field may stay away too, because it holds a default or nothing. So each absent field is
//! probed: a map that no field expects takes its place, and the value is read again. A field that
//! the type has refuses the probe or gives back something; one that it does not have is ignored.

use serde_json::{Map, Value};

use crate::field_path::FieldPath;
use crate::parse::{Fault, FaultReason};
use crate::similar_field::Schema;
use crate::{ApiObject, Kind};

/// A fault for each field of `raw` that `typed`, which was read from it, does not have, and for
/// each list that stands where a map belongs (derived types read one as their fields in order).
pub(crate) fn unknown_fields(kind: Kind, raw: &Value, typed: &ApiObject) -> Vec<Fault> {
    let Ok(back) = typed.to_value() else {
        return Vec::new();
    };
    let mut found = Differences::default();
    found.collect(&FieldPath::root(), raw, &back);
    let unknown = found
        .absent
        .into_iter()
        .filter(|path| is_unknown(kind, raw, path));
    let mut schema = None;
    let unknown = unknown.map(|field| {
        // Made only when it is needed: it costs more than reading the object.
        let schema = schema.get_or_insert_with(|| Schema::of(kind));
        no_such_field(kind, schema, field)
    });
    let lists = found.lists_for_maps.into_iter();
    let lists = lists.map(|field| Fault::invalid(field, "expected a map, found a list"));
    unknown.chain(lists).collect()
}

/// The keys that the map at `path` has and its type does not, where the value cannot be read as its type. The
/// object's own map is not looked at: what stands there beside `spec` is not all in the schema.
pub(crate) fn misspelt_fields(kind: Kind, raw: &Value, path: &FieldPath) -> Vec<Fault> {
    let Some(Value::Object(map)) = path.find(raw).filter(|_| !path.is_root()) else {
        return Vec::new();
    };
    let schema = Schema::of(kind);
    let unknown = map.keys().map(|key| path.key(key));
    unknown
        .filter(|field| schema.lacks(field))
        .map(|field| no_such_field(kind, &schema, field))
        .collect()
}

fn no_such_field(kind: Kind, schema: &Schema, field: FieldPath) -> Fault {
    let similar = schema.similar(&field);
    let hint = similar.map_or_else(String::new, |name| format!("; did you mean {name}?"));
    Fault {
        field,
        reason: FaultReason::UnknownField,
        message: format!("{kind} has no such field{hint}"),
    }
}

/// Where `raw` and what came back of it differ.
#[derive(Default)]
struct Differences {
    /// The topmost paths that did not come back.
    absent: Vec<FieldPath>,
    /// Lists that came back as maps.
    lists_for_maps: Vec<FieldPath>,
}

impl Differences {
    /// Compares the values at `at`. Scalars that come back in another form (quantities,
    /// timestamps) came back.
    fn collect(&mut self, at: &FieldPath, raw: &Value, back: &Value) {
        match (raw, back) {
            (Value::Object(raw), Value::Object(back)) => {
                for (key, value) in raw {
                    let path = at.key(key);
                    match back.get(key) {
                        Some(back) => self.collect(&path, value, back),
                        None => self.absent.push(path),
                    }
                }
            }
            (Value::Array(raw), Value::Array(back)) => {
                for (index, (raw, back)) in raw.iter().zip(back).enumerate() {
                    self.collect(&at.index(index), raw, back);
                }
            }
            (Value::Array(_), Value::Object(_)) => self.lists_for_maps.push(at.clone()),
            _ => {}
        }
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
