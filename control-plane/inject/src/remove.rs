//! The way back: a pod as it was before its proxy was put in.

use serde_json::Value;

use crate::names;
use crate::pod::{INIT_CONTAINERS, Pod, is_own, name_of};
use crate::{Refusal, pre_stop, probes, sidecar};

/// The pod without its proxy; one that has none comes back as it is. Ports of probes that had names
/// have numbers afterwards. What people wrote on it (`mesh.weft.dev/inject`, overrides) stays.
///
/// # Errors
/// The pod cannot be read, or what its proxy asks cannot.
pub fn uninject(pod: &Value) -> Result<Value, Refusal> {
    let mut pod = Pod::read(pod.clone())?;
    if !pod.is_injected() {
        return Ok(pod.into_value());
    }
    let asked = sidecar::probes_of(&pod)?;
    probes::restore(&mut pod, &asked);
    pre_stop::remove_sleeps(&mut pod);
    pod.list_mut(INIT_CONTAINERS).retain(|item| !is_own(item));
    let volumes = [
        names::STATE_VOLUME,
        names::TOKEN_VOLUME,
        names::TRUST_VOLUME,
    ];
    pod.list_mut("volumes")
        .retain(|item| !volumes.contains(&name_of(item)));
    for list in [INIT_CONTAINERS, "volumes"] {
        pod.remove_empty_list(list);
    }
    pod.set_metadata("annotations", names::STATUS, None);
    pod.set_metadata("labels", names::PROXY_VERSION, None);
    Ok(pod.into_value())
}
