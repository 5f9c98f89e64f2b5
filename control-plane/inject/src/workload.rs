//! Where in which kinds of object there is a pod.

use serde_json::Value;

use crate::Refusal;

/// `apiVersion`, `kind`, and the way from the object to its pod or pod template.
const KINDS: [(&str, &str, &[&str]); 8] = [
    ("v1", "Pod", &[]),
    ("v1", "ReplicationController", &["spec", "template"]),
    ("apps/v1", "Deployment", &["spec", "template"]),
    ("apps/v1", "ReplicaSet", &["spec", "template"]),
    ("apps/v1", "StatefulSet", &["spec", "template"]),
    ("apps/v1", "DaemonSet", &["spec", "template"]),
    ("batch/v1", "Job", &["spec", "template"]),
    (
        "batch/v1",
        "CronJob",
        &["spec", "jobTemplate", "spec", "template"],
    ),
];

/// The way to the pod of an object; none: objects of this kind have no pods.
pub fn way_to_pod(object: &Value) -> Option<&'static [&'static str]> {
    let (version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    let found = KINDS.iter().find(|(v, k, _)| (*v, *k) == (version, kind));
    found.map(|(_, _, way)| *way)
}

/// The items of a `List`.
pub fn items_mut(object: &mut Value) -> Option<&mut Vec<Value>> {
    let is_list = object["apiVersion"] == "v1" && object["kind"] == "List";
    let items = object.get_mut("items").filter(|_| is_list)?;
    items.as_array_mut()
}

/// Puts what `change` makes of the pod of `object` in its place; `None` leaves it. False: nothing
/// was changed.
///
/// # Errors
/// The refusal of `change`, with the field as seen from the object.
pub fn change_pod(
    object: &mut Value,
    change: impl FnOnce(&Value) -> Result<Option<Value>, Refusal>,
) -> Result<bool, Refusal> {
    let Some(way) = way_to_pod(object) else {
        return Ok(false);
    };
    let below = |refusal: Refusal| {
        let prefix: String = way.iter().map(|step| format!("{step}.")).collect();
        Refusal::new(format!("{prefix}{}", refusal.field), refusal.reason)
    };
    let place = way
        .iter()
        .try_fold(&mut *object, |at, step| at.get_mut(*step))
        .ok_or_else(|| Refusal::new(way.join("."), "is required"))?;
    match change(place).map_err(below)? {
        Some(pod) if pod != *place => {
            *place = pod;
            Ok(true)
        }
        _ => Ok(false),
    }
}
