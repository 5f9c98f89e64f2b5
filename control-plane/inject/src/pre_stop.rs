//! `preStop.sleep` for application containers without a hook of their own.
//!
//! A pod that is being deleted is still called for a moment: its endpoint takes time to be gone
//! everywhere. An application that ends at SIGTERM would refuse those calls. Native sidecars end
//! after the application by themselves and need nothing.

use serde_json::{Value, json};

use crate::names;
use crate::pod::{CONTAINERS, Pod, is_own, name_of};

/// Seconds.
const SLEEP: u64 = 5;

/// Gives the hook to containers that have none, and remembers to which. It takes at most half of
/// the grace period, which counts both: what is left is the application's.
pub(crate) fn add_sleeps(pod: &mut Pod) {
    let seconds = SLEEP.min(pod.grace_seconds() / 2);
    if seconds == 0 {
        return;
    }
    let remembered = pod.annotation(names::PRE_STOP_SLEEP).unwrap_or_default();
    let mut given: Vec<String> = split(remembered).map(str::to_owned).collect();
    for container in pod.containers_mut(CONTAINERS) {
        if !is_own(container) && container["lifecycle"]["preStop"].is_null() {
            let name = name_of(container).to_owned();
            add(container, seconds);
            if !given.contains(&name) {
                given.push(name);
            }
        }
    }
    if !given.is_empty() {
        let given = given.join(",");
        pod.set_metadata("annotations", names::PRE_STOP_SLEEP, Some(&given));
    }
}

/// Takes the hooks out again that [`add_sleeps`] has given.
pub(crate) fn remove_sleeps(pod: &mut Pod) {
    let given = pod.annotation(names::PRE_STOP_SLEEP).unwrap_or_default();
    let given: Vec<String> = split(given).map(str::to_owned).collect();
    for container in pod.containers_mut(CONTAINERS) {
        let is_ours = given.iter().any(|name| name == name_of(container))
            && container["lifecycle"]["preStop"]["sleep"].is_object();
        if is_ours {
            crate::pod::remove_entry(container, "lifecycle", "preStop");
        }
    }
    pod.set_metadata("annotations", names::PRE_STOP_SLEEP, None);
}

fn add(container: &mut Value, seconds: u64) {
    let hook = json!({"sleep": {"seconds": seconds}});
    match &mut container["lifecycle"] {
        Value::Object(lifecycle) => {
            lifecycle.insert("preStop".to_owned(), hook);
        }
        nothing => *nothing = json!({"preStop": hook}),
    }
}

fn split(names: &str) -> impl Iterator<Item = &str> {
    names.split(',').filter(|name| !name.is_empty())
}
