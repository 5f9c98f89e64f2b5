//! What the kubelet asks the application, asked by the proxy instead: its HTTP, TCP and gRPC probes
//! and its HTTP hooks lead to the proxy's port 15021, and the proxy is told what to ask.
//!
//! Owns both ends of that: the rewritten probe, and the [`Questions`] that the proxy reads from
//! `WEFT_PROBES` (`proxy/app/src/probes.rs`). Commands stay: they run in the container. A probe with
//! a `host` stays too: it does not ask this pod.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::Refusal;
use crate::names::HEALTH_PORT;
use crate::pod::{LISTS, Pod, is_own, name_of, path as container_path};

/// What the proxy is to ask, by `CONTAINER/HOOK`: a Kubernetes probe with its port as a number.
pub type Questions = BTreeMap<String, Value>;

/// How long an HTTP hook after the start may take; the kubelet has no limit of its own.
const POST_START_SECONDS: u64 = 60;

/// What the kubelet asks of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `startupProbe`
    Startup,
    /// `readinessProbe`
    Readiness,
    /// `livenessProbe`
    Liveness,
    /// `lifecycle.postStart`
    PostStart,
    /// `lifecycle.preStop`
    PreStop,
}

impl Hook {
    const ALL: [Self; 5] = [
        Self::Startup,
        Self::Readiness,
        Self::Liveness,
        Self::PostStart,
        Self::PreStop,
    ];

    /// The last part of its key.
    fn segment(self) -> &'static str {
        match self {
            Self::Startup => "startupz",
            Self::Readiness => "readyz",
            Self::Liveness => "livez",
            Self::PostStart => "poststart",
            Self::PreStop => "prestop",
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::Startup => "startupProbe",
            Self::Readiness => "readinessProbe",
            Self::Liveness => "livenessProbe",
            Self::PostStart => "lifecycle.postStart",
            Self::PreStop => "lifecycle.preStop",
        }
    }

    fn is_probe(self) -> bool {
        matches!(self, Self::Startup | Self::Readiness | Self::Liveness)
    }

    fn of(self, container: &Value) -> Option<&Map<String, Value>> {
        let steps = self.field().split('.');
        steps.fold(container, |at, step| &at[step]).as_object()
    }

    fn of_mut(self, container: &mut Value) -> Option<&mut Map<String, Value>> {
        let mut steps = self.field().split('.');
        let found = steps.try_fold(container, |at, step| at.get_mut(step));
        found?.as_object_mut()
    }
}

/// The key of a container's probe or hook.
pub fn key(container: &str, hook: Hook) -> String {
    format!("{container}/{}", hook.segment())
}

/// Where the proxy answers for it, at port 15021.
pub fn path(key: &str) -> String {
    format!("/weft/probe/{key}")
}

/// Leads every probe and hook that asks the application to the proxy, and adds what it asks to
/// `asked`. What leads there already stays.
pub(crate) fn rewrite(pod: &mut Pod, asked: &mut Questions) -> Result<(), Refusal> {
    let grace = pod.grace_seconds();
    for list in LISTS {
        for container in pod.containers_mut(list) {
            if is_own(container) {
                continue;
            }
            let field = container_path(list, container);
            for hook in Hook::ALL {
                rewrite_one(container, hook, grace, asked).map_err(|(below, reason)| {
                    Refusal::new(format!("{field}.{}.{below}", hook.field()), reason)
                })?;
            }
        }
    }
    Ok(())
}

/// A field below the probe, and why it cannot be asked.
type Fault = (&'static str, String);

fn rewrite_one(
    container: &mut Value,
    hook: Hook,
    grace: u64,
    asked: &mut Questions,
) -> Result<(), Fault> {
    let Some(handler) = hook.of(container) else {
        return Ok(());
    };
    let key = key(name_of(container), hook);
    let question = match question(container, hook, handler)? {
        Some(_) if leads_to_proxy(handler) => {
            return asked.contains_key(&key).then_some(()).ok_or_else(|| {
                let reason = "asks the proxy, which does not know what to ask; write the application's own path and port";
                ("httpGet.path", reason.to_owned())
            });
        }
        Some(mut question) => {
            let seconds = match hook {
                Hook::PostStart => POST_START_SECONDS,
                Hook::PreStop => grace.max(1),
                _ => handler
                    .get("timeoutSeconds")
                    .and_then(Value::as_u64)
                    .unwrap_or(1),
            };
            question.insert("timeoutSeconds".to_owned(), seconds.into());
            question
        }
        None => return Ok(()),
    };
    let rewritten = json!({"path": path(&key), "port": HEALTH_PORT});
    if let Some(handler) = hook.of_mut(container) {
        replace_action(handler, "httpGet", rewritten);
    }
    asked.insert(key, Value::Object(question));
    Ok(())
}

const ACTIONS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// The same question for the proxy; none where the kubelet does not ask this pod over the network.
fn question(
    container: &Value,
    hook: Hook,
    handler: &Map<String, Value>,
) -> Result<Option<Map<String, Value>>, Fault> {
    let action = ACTIONS
        .into_iter()
        .find_map(|name| Some((name, handler.get(name)?.as_object()?)));
    let Some((name, action)) = action else {
        return Ok(None);
    };
    // The kubelet knows no hooks but commands, HTTP and sleeping.
    let never_asked = name != "httpGet" && !hook.is_probe();
    let elsewhere = action.get("host").is_some_and(|host| host != "");
    if never_asked || elsewhere {
        return Ok(None);
    }
    let place = match name {
        "httpGet" => "httpGet.port",
        "tcpSocket" => "tcpSocket.port",
        _ => "grpc.port",
    };
    let port = port(container, action.get("port").unwrap_or(&Value::Null));
    let mut asked = action.clone();
    asked.shift_remove("host");
    asked.insert(
        "port".to_owned(),
        port.map_err(|reason| (place, reason))?.into(),
    );
    Ok(Some(Map::from_iter([(name.to_owned(), asked.into())])))
}

/// The number of a port, which may be a name among the container's own.
fn port(container: &Value, written: &Value) -> Result<u16, String> {
    let number = match written {
        Value::String(name) => {
            let ports = container["ports"].as_array().into_iter().flatten();
            let named = ports.filter(|port| port["name"] == **name);
            let found = named.map(|port| &port["containerPort"]).next();
            match found {
                Some(port) => port.as_u64(),
                // A number in quotes is taken as one, as the kubelet does.
                None => Some(
                    name.parse()
                        .map_err(|_| format!("the container has no port named {name:?}"))?,
                ),
            }
        }
        number => number.as_u64(),
    };
    let port = number.and_then(|number| u16::try_from(number).ok());
    port.filter(|port| *port != 0)
        .ok_or_else(|| "is required, and a port (1 to 65535) or the name of one".to_owned())
}

fn leads_to_proxy(handler: &Map<String, Value>) -> bool {
    proxy_key(handler).is_some()
}

/// The key that a rewritten probe asks for.
fn proxy_key(handler: &Map<String, Value>) -> Option<&str> {
    let get = handler.get("httpGet")?;
    let key = get["path"].as_str()?.strip_prefix("/weft/probe/")?;
    (get["port"] == HEALTH_PORT).then_some(key)
}

/// Puts an action in the place of the present one.
fn replace_action(handler: &mut Map<String, Value>, name: &str, action: Value) {
    let entries = std::mem::take(handler).into_iter();
    *handler = entries
        .map(|(key, value)| match ACTIONS.contains(&key.as_str()) {
            true => (name.to_owned(), action.clone()),
            false => (key, value),
        })
        .collect();
}

/// Gives probes that lead to the proxy what they asked before, with named ports as numbers.
pub(crate) fn restore(pod: &mut Pod, asked: &Questions) {
    for list in LISTS {
        for container in pod.containers_mut(list) {
            for hook in Hook::ALL {
                let Some(handler) = hook.of_mut(container) else {
                    continue;
                };
                let question = proxy_key(handler).and_then(|key| asked.get(key)?.as_object());
                let action = question.and_then(|question| {
                    ACTIONS
                        .into_iter()
                        .find_map(|name| Some((name, question.get(name)?.clone())))
                });
                if let Some((name, action)) = action {
                    replace_action(handler, name, action);
                }
            }
        }
    }
}

/// Whether the kubelet asks an application of this pod over the network.
pub(crate) fn asks_the_application(pod: &Pod) -> bool {
    let containers = pod.containers().filter(|(_, container)| !is_own(container));
    containers.into_iter().any(|(_, container)| {
        Hook::ALL.into_iter().any(|hook| {
            hook.of(container).is_some_and(|handler| {
                !leads_to_proxy(handler) && !matches!(question(container, hook, handler), Ok(None))
            })
        })
    })
}
