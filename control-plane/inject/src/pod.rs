//! A pod as JSON whose shape has been checked, so that everything after reads it without failing.

use serde_json::{Map, Value, json};

use crate::Refusal;
use crate::names;

pub(crate) const INIT_CONTAINERS: &str = "initContainers";
pub(crate) const CONTAINERS: &str = "containers";
pub(crate) const LISTS: [&str; 2] = [INIT_CONTAINERS, CONTAINERS];

/// A pod: `metadata` and `spec` are maps, labels and annotations maps of strings, containers and
/// volumes lists of maps with a name.
#[derive(Clone, Debug)]
pub(crate) struct Pod(Value);

impl Pod {
    pub(crate) fn read(value: Value) -> Result<Self, Refusal> {
        let pod = Self(value);
        let Some(spec) = pod.0.get("spec").and_then(Value::as_object) else {
            return Err(Refusal::new("spec", "is required, and a map"));
        };
        for list in ["initContainers", "containers", "volumes"] {
            named_items(spec.get(list), list)?;
        }
        for field in ["labels", "annotations"] {
            let map = &pod.0["metadata"][field];
            let strings = |map: &Map<String, Value>| map.values().all(Value::is_string);
            if !map.is_null() && !map.as_object().is_some_and(strings) {
                let reason =
                    "must be a map of strings; put quotes around numbers and true or false";
                return Err(Refusal::new(format!("metadata.{field}"), reason));
            }
        }
        Ok(pod)
    }

    pub(crate) fn into_value(self) -> Value {
        self.0
    }

    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.0["metadata"]["labels"].get(name)?.as_str()
    }

    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.0["metadata"]["annotations"].get(name)?.as_str()
    }

    pub(crate) fn annotation_names(&self) -> impl Iterator<Item = &str> {
        let annotations = self.0["metadata"]["annotations"].as_object();
        annotations
            .into_iter()
            .flat_map(|map| map.keys().map(String::as_str))
    }

    /// Sets `metadata.FIELD[name]`, or takes it out; a map that becomes empty goes as well.
    pub(crate) fn set_metadata(&mut self, field: &str, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            let metadata = map_at(map(&mut self.0), "metadata");
            map_at(metadata, field).insert(name.to_owned(), value.into());
        } else if let Some(metadata) = self.0.get_mut("metadata") {
            remove_entry(metadata, field, name);
        }
    }

    /// A field of the specification; null where there is none.
    pub(crate) fn spec(&self, field: &str) -> &Value {
        &self.0["spec"][field]
    }

    pub(crate) fn spec_mut(&mut self) -> &mut Map<String, Value> {
        map_at(map(&mut self.0), "spec")
    }

    /// A list of the specification, made where there is none.
    pub(crate) fn list_mut(&mut self, list: &str) -> &mut Vec<Value> {
        let value = self.spec_mut().entry(list.to_owned()).or_insert(json!([]));
        if value.is_null() {
            *value = json!([]);
        }
        value
            .as_array_mut()
            .expect("`read` refuses anything but a list or nothing")
    }

    /// Takes a list out that has nothing in it.
    pub(crate) fn remove_empty_list(&mut self, list: &str) {
        if self.spec(list).as_array().is_some_and(Vec::is_empty) {
            self.spec_mut().shift_remove(list);
        }
    }

    /// The containers of a list, where there is one.
    pub(crate) fn containers_mut(&mut self, list: &str) -> impl Iterator<Item = &mut Value> {
        let items = self.spec_mut().get_mut(list).and_then(Value::as_array_mut);
        items.into_iter().flatten()
    }

    /// All containers of both lists, with their paths.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (String, &Value)> {
        LISTS.into_iter().flat_map(|list| {
            let items = self.spec(list).as_array();
            items
                .into_iter()
                .flatten()
                .map(move |item| (path(list, item), item))
        })
    }

    /// The entry of a list that has this name.
    pub(crate) fn named(&self, list: &str, name: &str) -> Option<&Value> {
        let items = self.spec(list).as_array()?;
        items.iter().find(|item| item["name"] == name)
    }

    /// Whether it already has a proxy of ours.
    pub(crate) fn is_injected(&self) -> bool {
        self.annotation(names::STATUS) == Some(names::INJECTED)
            && [names::INIT_CONTAINER, names::PROXY_CONTAINER]
                .iter()
                .all(|name| self.named(INIT_CONTAINERS, name).is_some())
    }

    /// `terminationGracePeriodSeconds`.
    pub(crate) fn grace_seconds(&self) -> u64 {
        self.spec("terminationGracePeriodSeconds")
            .as_u64()
            .unwrap_or(30)
    }
}

/// `spec.containers[NAME]`.
pub(crate) fn path(list: &str, item: &Value) -> String {
    format!("spec.{list}[{}]", name_of(item))
}

pub(crate) fn name_of(item: &Value) -> &str {
    item["name"].as_str().unwrap_or_default()
}

/// Whether it is one of the two containers of ours.
pub(crate) fn is_own(container: &Value) -> bool {
    [names::INIT_CONTAINER, names::PROXY_CONTAINER].contains(&name_of(container))
}

/// Takes an entry out of a map of strings, and the map with its last one.
pub(crate) fn remove_entry(parent: &mut Value, field: &str, name: &str) -> Option<Value> {
    let parent = parent.as_object_mut()?;
    let map = parent.get_mut(field)?.as_object_mut()?;
    let removed = map.shift_remove(name);
    if removed.is_some() && map.is_empty() {
        parent.shift_remove(field);
    }
    removed
}

fn named_items(list: Option<&Value>, field: &str) -> Result<(), Refusal> {
    let items = match list {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(Refusal::new(format!("spec.{field}"), "must be a list")),
    };
    for (index, item) in items.iter().enumerate() {
        if item["name"].as_str().is_none_or(str::is_empty) {
            let field = format!("spec.{field}[{index}].name");
            return Err(Refusal::new(field, "is required"));
        }
    }
    Ok(())
}

fn map(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().expect("`read` found a map here")
}

fn map_at<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = map.entry(key.to_owned()).or_insert(json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it has just been made one")
}
