//! What people choose at installation, with its defaults: `--set KEY=VALUE`, later a chart's values.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_inject::{InjectSettings, Resources, is_quantity};

const DURATION: &str = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$";
const QUANTITY: &str =
    r"^(0*[1-9][0-9]*(\.[0-9]*)?|[0-9]*\.0*[1-9][0-9]*)(m|u|n|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$";
/// Where an empty text takes it away.
const NO_QUANTITY: &str =
    r"^((0*[1-9][0-9]*(\.[0-9]*)?|[0-9]*\.0*[1-9][0-9]*)(m|u|n|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?)?$";
/// How many letters may be wrong in a key for it to be taken as another.
const MAX_DISTANCE: usize = 3;

/// Everything that can be chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Values {
    /// Namespace of the control plane.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub namespace: String,
    /// Render that namespace, too.
    pub create_namespace: bool,
    /// Trust domain of all identities.
    #[schemars(regex(
        pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$"
    ))]
    pub trust_domain: String,
    /// Render the CRDs, too.
    pub crds: bool,
    /// Render NetworkPolicies for the control plane.
    pub network_policies: bool,
    /// Where images come from.
    pub image: Image,
    /// The control plane.
    pub control_plane: ControlPlane,
    /// The proxies.
    pub proxy: Proxy,
    /// The admission webhook.
    pub webhook: Webhook,
}

/// Where images come from: `REGISTRY/proxy:TAG` and `REGISTRY/control-plane:TAG`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Image {
    /// Registry and path.
    #[schemars(regex(pattern = r#"^[^"\s]+$"#))]
    pub registry: String,
    /// Tag, the version of all programs.
    #[schemars(regex(pattern = r"^[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?$"))]
    pub tag: String,
    /// `imagePullPolicy`; Kubernetes' own rule where there is none.
    #[schemars(regex(pattern = r"^(Always|IfNotPresent|Never)?$"))]
    pub pull_policy: Option<String>,
}

/// The control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControlPlane {
    /// How many replicas; all of them serve.
    #[schemars(range(min = 1))]
    pub replicas: u32,
    /// Log filter.
    #[schemars(length(min = 1))]
    pub log: String,
    /// Life of a workload's certificate.
    #[schemars(regex(pattern = DURATION))]
    pub leaf_lifetime: String,
    /// Life of a root that the control plane makes.
    #[schemars(regex(pattern = DURATION))]
    pub root_lifetime: String,
    /// `requests.cpu`
    #[schemars(regex(pattern = QUANTITY))]
    pub cpu_request: String,
    /// `requests.memory`
    #[schemars(regex(pattern = QUANTITY))]
    pub memory_request: String,
    /// `limits.memory`
    #[schemars(regex(pattern = QUANTITY))]
    pub memory_limit: String,
}

/// The proxies, where annotations of a pod say nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Proxy {
    /// Log filter.
    #[schemars(length(min = 1))]
    pub log: String,
    /// `requests.cpu`
    #[schemars(regex(pattern = NO_QUANTITY))]
    pub cpu_request: Option<String>,
    /// `limits.cpu`
    #[schemars(regex(pattern = NO_QUANTITY))]
    pub cpu_limit: Option<String>,
    /// `requests.memory`
    #[schemars(regex(pattern = NO_QUANTITY))]
    pub memory_request: Option<String>,
    /// `limits.memory`
    #[schemars(regex(pattern = NO_QUANTITY))]
    pub memory_limit: Option<String>,
}

/// The admission webhook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// `Fail`: without a control plane no pod of the mesh starts. `Ignore`: it starts without a proxy.
    #[schemars(regex(pattern = r"^(Fail|Ignore)$"))]
    pub failure_policy: String,
    /// How long the API server waits.
    #[schemars(range(min = 1, max = 30))]
    pub timeout_seconds: u32,
    /// Where the API server calls from, for the NetworkPolicy; none: anywhere.
    pub api_server_cidrs: Vec<String>,
}

/// A `KEY=VALUE` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No `=`.
    #[error("{0:?} is not KEY=VALUE, as in controlPlane.replicas=2")]
    NoAssignment(String),
    /// There is no such key.
    #[error("there is no value {key:?}{hint}")]
    UnknownKey {
        /// The key.
        key: String,
        /// What may have been meant.
        hint: String,
    },
    /// The value cannot be.
    #[error("{key}: {value:?} is not {expected}")]
    Invalid {
        /// The key.
        key: String,
        /// What was written.
        value: String,
        /// What can be.
        expected: &'static str,
    },
}

impl Default for Values {
    fn default() -> Self {
        let proxy = InjectSettings::default();
        Self {
            namespace: "weft-system".to_owned(),
            create_namespace: true,
            trust_domain: proxy.trust_domain,
            crds: true,
            network_policies: true,
            image: Image {
                registry: "weft".to_owned(),
                tag: proxy.version,
                pull_policy: None,
            },
            control_plane: ControlPlane {
                replicas: 3,
                // The client of the API server would tell of each attempt during an outage.
                log: "info,kube_client=off".to_owned(),
                leaf_lifetime: "24h".to_owned(),
                root_lifetime: "87600h".to_owned(),
                cpu_request: "100m".to_owned(),
                memory_request: "128Mi".to_owned(),
                memory_limit: "2Gi".to_owned(),
            },
            proxy: Proxy {
                log: proxy.log,
                cpu_request: proxy.resources.cpu_request,
                cpu_limit: proxy.resources.cpu_limit,
                memory_request: proxy.resources.memory_request,
                memory_limit: proxy.resources.memory_limit,
            },
            webhook: Webhook {
                failure_policy: "Fail".to_owned(),
                timeout_seconds: 10,
                api_server_cidrs: Vec::new(),
            },
        }
    }
}

impl Values {
    /// The defaults with these assignments, `KEY=VALUE` each; lists are separated by commas.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn with<'a>(assignments: impl IntoIterator<Item = &'a str>) -> Result<Self, SetError> {
        Self::default().and(assignments)
    }

    /// These with assignments.
    ///
    /// # Errors
    /// As of [`Self::with`].
    pub fn and<'a>(
        &self,
        assignments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, SetError> {
        let json = serde_json::to_value(self);
        let mut json = json.expect("values are strings, numbers, booleans and lists of strings");
        for assignment in assignments {
            let Some((key, text)) = assignment.split_once('=') else {
                return Err(SetError::NoAssignment(assignment.to_owned()));
            };
            let mut steps = key.trim().split('.');
            let place = steps.try_fold(&mut json, |at, step| at.get_mut(step));
            match place.filter(|place| !place.is_object()) {
                Some(place) => *place = read(key.trim(), text.trim(), place)?,
                None => return Err(unknown(key.trim())),
            }
        }
        Ok(serde_json::from_value(json).expect("each value has the type of its default"))
    }

    /// What is put into pods.
    pub fn inject_settings(&self) -> InjectSettings {
        InjectSettings {
            image: self.image_of("proxy"),
            image_pull_policy: self.image.pull_policy.clone(),
            version: self.image.tag.clone(),
            control_plane: format!(
                "{}.{}.svc:{}",
                crate::names::CONTROL_PLANE,
                self.namespace,
                crate::names::GRPC_PORT
            ),
            trust_domain: self.trust_domain.clone(),
            log: self.proxy.log.clone(),
            resources: Resources {
                cpu_request: self.proxy.cpu_request.clone(),
                cpu_limit: self.proxy.cpu_limit.clone(),
                memory_request: self.proxy.memory_request.clone(),
                memory_limit: self.proxy.memory_limit.clone(),
            },
        }
    }

    pub(crate) fn image_of(&self, program: &str) -> String {
        format!("{}/{program}:{}", self.image.registry, self.image.tag)
    }
}

/// The value of the type that `place` has. An empty text takes an optional one away.
fn read(key: &str, text: &str, place: &Value) -> Result<Value, SetError> {
    let value = match place {
        Value::Bool(_) => text.parse().map(Value::Bool).ok(),
        Value::Number(_) => text.parse::<u32>().ok().filter(|n| *n > 0).map(Value::from),
        Value::Array(_) => {
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            Some(items.collect())
        }
        _ if text.is_empty() && is_optional(key) => Some(Value::Null),
        _ => Some(Value::from(text)),
    };
    let (fits, expected) = rule(key, text);
    value.filter(|_| fits).ok_or_else(|| SetError::Invalid {
        key: key.to_owned(),
        value: text.to_owned(),
        expected,
    })
}

pub(crate) fn is_optional(key: &str) -> bool {
    key == "image.pullPolicy" || key.starts_with("proxy.")
}

/// Whether the text is what this key can have, and what that is.
fn rule(key: &str, text: &str) -> (bool, &'static str) {
    let last = key.rsplit('.').next().unwrap_or(key);
    match last {
        "namespace" => (is_label(text), "a name of a namespace"),
        "trustDomain" => (text.split('.').all(is_label), "a trust domain"),
        "cpuRequest" | "cpuLimit" | "memoryRequest" | "memoryLimit" => (
            is_quantity(text) || (text.is_empty() && is_optional(key)),
            "a quantity such as 100m, 0.5, 64Mi or 1Gi",
        ),
        "leafLifetime" | "rootLifetime" => (
            text.parse::<weft_api::Duration>().is_ok(),
            "a duration such as 24h",
        ),
        "failurePolicy" => (["Fail", "Ignore"].contains(&text), "Fail or Ignore"),
        "pullPolicy" => (
            ["", "Always", "IfNotPresent", "Never"].contains(&text),
            "Always, IfNotPresent or Never",
        ),
        "timeoutSeconds" => (
            text.parse().is_ok_and(|n: u32| (1..=30).contains(&n)),
            "a number from 1 to 30",
        ),
        "apiServerCidrs" => (
            text.split(',')
                .map(str::trim)
                .all(|item| item.is_empty() || item.parse::<IpNet>().is_ok()),
            "a list of ranges such as 10.0.0.0/8 separated by commas",
        ),
        "replicas" => (true, "a number above 0"),
        "createNamespace" | "crds" | "networkPolicies" => (true, "true or false"),
        // A version is a tag and a label at once.
        "tag" => (
            is_tag(text),
            "a tag of at most 63 letters, digits, dots, dashes and underscores",
        ),
        _ => (!text.is_empty(), "a text"),
    }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_tag(text: &str) -> bool {
    let outer = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.starts_with(outer)
        && text.ends_with(outer)
        && text.chars().all(|c| outer(c) || "._-".contains(c))
}

fn unknown(key: &str) -> SetError {
    let mut keys = Vec::new();
    let defaults = serde_json::to_value(Values::default()).unwrap_or_default();
    leaves("", &defaults, &mut keys);
    // Written without the group it belongs to, or misspelt.
    let of_group = keys
        .iter()
        .find(|known| known.ends_with(&format!(".{key}")));
    let distance = |known: &&String| strsim::osa_distance(key, known);
    let close = keys.iter().min_by_key(distance);
    let close = of_group.or(close.filter(|known| distance(known) <= MAX_DISTANCE));
    let hint = match close {
        Some(known) => format!("; did you mean {known}?"),
        None => format!("; there are {}", keys.join(", ")),
    };
    SetError::UnknownKey {
        key: key.to_owned(),
        hint,
    }
}

fn leaves(at: &str, value: &Value, keys: &mut Vec<String>) {
    let Some(map) = value.as_object() else {
        keys.push(at.to_owned());
        return;
    };
    for (key, value) in map {
        let below = if at.is_empty() {
            key.clone()
        } else {
            format!("{at}.{key}")
        };
        leaves(&below, value, keys);
    }
}
