//! Raw value → typed object and everything that is wrong with it, each fault at its field.
//!
//! A type error does not hide the next one: the field at fault is taken out and the rest is read
//! again. What remains is the object as far as it can be read; whether that may be used is the
//! caller's decision ([`Parsed::faults`] is empty when nothing was wrong).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::field_path::{FieldPath, Segment};
use crate::object::TypeError;
use crate::type_error::{in_plain_words, missing_field};
use crate::unknown_fields::{misspelt_fields, unknown_fields};
use crate::validate::validate;
use crate::{ApiObject, Kind};

/// How many type errors of one object are reported.
const MAX_TYPE_ERRORS: usize = 64;

/// The kinds of faults that a single object can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultReason {
    /// The kind does not have the field.
    UnknownField,
    /// The value is of the wrong type, out of range, or excluded by another; or it is missing.
    InvalidValue,
    /// The same name or value twice in a list that wants each once.
    DuplicateValue,
}

/// One fault of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The field at fault, which need not exist (a missing one).
    pub field: FieldPath,
    /// What kind of fault it is.
    pub reason: FaultReason,
    /// What is wrong, for people.
    pub message: String,
}

impl Fault {
    /// A value that cannot be.
    pub fn invalid(field: FieldPath, message: impl Into<String>) -> Self {
        Self {
            field,
            reason: FaultReason::InvalidValue,
            message: message.into(),
        }
    }
}

/// What came of reading one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The object as far as it can be read. A rule of a route that cannot be read is left empty in
    /// its place, so that positions stay what they are.
    pub object: Option<ApiObject>,
    /// Everything that is wrong with it.
    pub faults: Vec<Fault>,
}

/// Reads `raw` as an object of the given kind.
pub fn parse(kind: Kind, raw: &Value) -> Parsed {
    let mut remainder = Remainder::new(kind, raw);
    let mut faults = Vec::new();
    let mut object = None;
    for _ in 0..MAX_TYPE_ERRORS {
        match ApiObject::from_value(kind, &remainder.value) {
            Ok(read) => {
                object = Some(read);
                break;
            }
            Err(error) => {
                if !remainder.take_out(&error, &mut faults) {
                    break;
                }
            }
        }
    }
    if let Some(object) = &object {
        let unknown = unknown_fields(kind, &remainder.value, object);
        let invalid = validate(object).into_iter();
        // What was taken out has been reported, and is not missing besides.
        let invalid = invalid.filter(|fault| !remainder.is_removed_from(&fault.field));
        faults.extend(unknown.into_iter().chain(invalid).map(|fault| Fault {
            field: remainder.original(&fault.field),
            ..fault
        }));
    }
    if !remainder.damaged_rules.is_empty() {
        object = object.and(remainder.without_damaged_rules());
    }
    faults.sort();
    faults.dedup();
    Parsed { object, faults }
}

/// The raw value without the fields at fault.
struct Remainder {
    kind: Kind,
    value: Value,
    /// Items that were taken out of lists, in the positions of the moment.
    removed_items: Vec<(FieldPath, usize)>,
    /// Entries that were taken out of maps, in original positions.
    removed_entries: Vec<FieldPath>,
    /// Rules of a route from which something was taken out. Rules stay in their places.
    damaged_rules: BTreeSet<FieldPath>,
}

impl Remainder {
    fn new(kind: Kind, raw: &Value) -> Self {
        Self {
            kind,
            value: raw.clone(),
            removed_items: Vec::new(),
            removed_entries: Vec::new(),
            damaged_rules: BTreeSet::new(),
        }
    }

    /// Reports the type error and takes the field at fault out. False when nothing can be taken
    /// out: the object cannot be read at all.
    fn take_out(&mut self, error: &TypeError, faults: &mut Vec<Fault>) -> bool {
        let path = path_of(error.path());
        let message = error.inner().to_string();
        match missing_field(&message) {
            Some(name) => {
                let missing = self.original(&path.key(name));
                if !self.removed_entries.contains(&missing) {
                    faults.push(Fault::invalid(missing, "is required"));
                }
                // It may be there by another name, which goes with the map that is taken out now.
                let misspelt = misspelt_fields(self.kind, &self.value, &path).into_iter();
                faults.extend(misspelt.map(|fault| Fault {
                    field: self.original(&fault.field),
                    ..fault
                }));
            }
            None => faults.push(Fault::invalid(
                self.original(&path),
                in_plain_words(&message),
            )),
        }
        self.remove(&path)
    }

    fn remove(&mut self, path: &FieldPath) -> bool {
        if let Some(rule) = self.route_rule(path) {
            self.damaged_rules.insert(rule.clone());
            if rule == *path {
                return self.blank(&rule);
            }
        }
        let (Some(parent), Some(last)) = (path.parent(), path.segments().last()) else {
            return false;
        };
        let original = self.original(path);
        match (parent.find_mut(&mut self.value), last) {
            (Some(Value::Object(map)), Segment::Key(key)) => {
                self.removed_entries.push(original);
                map.shift_remove(key).is_some()
            }
            (Some(Value::Array(list)), Segment::Index(index)) if *index < list.len() => {
                list.remove(*index);
                self.removed_items.push((parent, *index));
                true
            }
            _ => false,
        }
    }

    /// Leaves nothing of a rule but its place. False when nothing was left before.
    fn blank(&mut self, rule: &FieldPath) -> bool {
        let Some(value) = rule.find_mut(&mut self.value) else {
            return false;
        };
        let was_blank = value.as_object().is_some_and(Map::is_empty);
        *value = Value::Object(Map::new());
        !was_blank
    }

    /// The object with damaged rules left blank: a rule is kept or lost as a whole.
    fn without_damaged_rules(mut self) -> Option<ApiObject> {
        for rule in std::mem::take(&mut self.damaged_rules) {
            self.blank(&rule);
        }
        ApiObject::from_value(self.kind, &self.value).ok()
    }

    /// Whether this field, or an item of this list, was taken out.
    fn is_removed_from(&self, path: &FieldPath) -> bool {
        let original = self.original(path);
        self.removed_items.iter().any(|(list, _)| list == path)
            || self.removed_entries.contains(&original)
    }

    /// The rule of a route that the path goes through.
    fn route_rule(&self, path: &FieldPath) -> Option<FieldPath> {
        let is_route = matches!(self.kind, Kind::HttpRoute | Kind::GrpcRoute);
        let index = path.spec_item("rules").filter(|_| is_route)?;
        Some(FieldPath::root().key("spec").key("rules").index(index))
    }

    /// The path in the raw value of a path in the remainder.
    fn original(&self, path: &FieldPath) -> FieldPath {
        let mut segments = path.segments().to_vec();
        for (list, removed) in self.removed_items.iter().rev() {
            let depth = list.segments().len();
            let below = segments.len() > depth && segments[..depth] == *list.segments();
            if let Some(Segment::Index(index)) = segments.get_mut(depth).filter(|_| below) {
                *index += usize::from(*index >= *removed);
            }
        }
        segments.into()
    }
}

fn path_of(path: &serde_path_to_error::Path) -> FieldPath {
    let segments = path.iter().filter_map(|segment| match segment {
        serde_path_to_error::Segment::Seq { index } => Some(Segment::Index(*index)),
        serde_path_to_error::Segment::Map { key } => Some(Segment::Key(key.clone())),
        serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => None,
    });
    FieldPath::from(segments.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
