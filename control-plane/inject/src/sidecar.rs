//! The two containers of a proxy, their volumes, and the pod's marks.

use serde_json::{Map, Value, json};

use crate::Refusal;
use crate::names::{self, HEALTH_PORT, METRICS_PORT, PROXY_UID};
use crate::overrides::Overrides;
use crate::pod::{INIT_CONTAINERS, Pod, is_own, name_of, path};
use crate::probes::Questions;
use crate::settings::{InjectSettings, Resources};

const PROBES: &str = "WEFT_PROBES";
const STATE_DIR: &str = "/var/run/weft/state";
const TOKEN_DIR: &str = "/var/run/weft/token";
const TRUST_DIR: &str = "/var/run/weft/trust";
/// The kubelet renews the token well before.
const TOKEN_SECONDS: u64 = 3600;
/// Seconds until the kubelet starts a proxy anew that has not become ready. Long: what it waits for
/// (mostly a control plane) does not come sooner by that.
const STARTUP_SECONDS: u64 = 600;

/// Puts the proxy in: first in line, so that nothing of the pod runs before it.
pub(crate) fn add(
    pod: &mut Pod,
    settings: &InjectSettings,
    overrides: &Overrides,
    asked: &Questions,
) {
    let own = [
        init_container(settings, overrides),
        proxy_container(settings, overrides, asked),
    ];
    pod.list_mut(INIT_CONTAINERS).splice(0..0, own);
    pod.list_mut("volumes").extend(volumes());
    pod.set_metadata("annotations", names::STATUS, Some(names::INJECTED));
    pod.set_metadata("labels", names::PROXY_VERSION, Some(&settings.version));
}

/// Brings the proxy of an injected pod to the front again and tells it what to ask. What others
/// have added to its containers meanwhile stays.
pub(crate) fn update(pod: &mut Pod, asked: &Questions) {
    let containers = pod.list_mut(INIT_CONTAINERS);
    let order = |container: &Value| match name_of(container) {
        names::INIT_CONTAINER => 0,
        names::PROXY_CONTAINER => 1,
        _ => 2,
    };
    containers.sort_by_key(order);
    let own = containers.iter_mut().filter(|item| is_own(item));
    for proxy in own.filter(|item| name_of(item) == names::PROXY_CONTAINER) {
        let env = proxy["env"].as_array_mut().into_iter().flatten();
        for variable in env.filter(|variable| variable["name"] == PROBES) {
            variable["value"] = probes_value(asked).into();
        }
    }
}

/// What the proxy of an injected pod asks already.
pub(crate) fn probes_of(pod: &Pod) -> Result<Questions, Refusal> {
    let Some(proxy) = pod.named(INIT_CONTAINERS, names::PROXY_CONTAINER) else {
        return Ok(Questions::new());
    };
    let env = proxy["env"].as_array().into_iter().flatten();
    let written = env
        .filter(|variable| variable["name"] == PROBES)
        .find_map(|variable| variable["value"].as_str());
    let Some(written) = written else {
        let field = format!("{}.env", path(INIT_CONTAINERS, proxy));
        return Err(Refusal::new(field, format!("{PROBES} is missing")));
    };
    serde_json::from_str(&written.replace("$$", "$")).map_err(|error| {
        let field = format!("{}.env[{PROBES}]", path(INIT_CONTAINERS, proxy));
        Refusal::new(field, error.to_string())
    })
}

/// Kubernetes expands `$(NAME)` in values; `$$` is a dollar.
fn probes_value(asked: &Questions) -> String {
    json!(asked).to_string().replace('$', "$$")
}

fn init_container(settings: &InjectSettings, overrides: &Overrides) -> Value {
    let mut env = vec![
        value("WEFT_PROXY_UID", PROXY_UID),
        field("WEFT_POD_IPS", "status.podIPs"),
        field("WEFT_HOST_IPS", "status.hostIPs"),
    ];
    let skipped = [
        (
            "WEFT_EXCLUDE_INBOUND_PORTS",
            joined(&overrides.skip_inbound_ports),
        ),
        (
            "WEFT_EXCLUDE_OUTBOUND_PORTS",
            joined(&overrides.skip_outbound_ports),
        ),
        (
            "WEFT_EXCLUDE_OUTBOUND_CIDRS",
            joined(&overrides.skip_outbound_cidrs),
        ),
    ];
    let skipped = skipped.into_iter().filter(|(_, list)| !list.is_empty());
    env.extend(skipped.map(|(name, list)| value(name, list)));
    let mut container = container(names::INIT_CONTAINER, "init", settings, overrides, env);
    container["securityContext"] = json!({
        // Writing the pod's firewall takes this one capability, which only root has in effect.
        "runAsUser": 0,
        "runAsGroup": 0,
        "runAsNonRoot": false,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "privileged": false,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    container
}

fn proxy_container(settings: &InjectSettings, overrides: &Overrides, asked: &Questions) -> Value {
    let mut env = vec![
        field("WEFT_NAMESPACE", "metadata.namespace"),
        field("WEFT_POD", "metadata.name"),
        field("WEFT_SERVICE_ACCOUNT", "spec.serviceAccountName"),
        field("WEFT_POD_IPS", "status.podIPs"),
        value("WEFT_PROXY_UID", PROXY_UID),
        value("WEFT_CONTROL_PLANE", &settings.control_plane),
        value("WEFT_TRUST_DOMAIN", &settings.trust_domain),
        value(
            "WEFT_TRUST_BUNDLE",
            format!("{TRUST_DIR}/{}", names::TRUST_KEY),
        ),
        value("WEFT_TOKEN_FILE", format!("{TOKEN_DIR}/token")),
        // A folder of the proxy's own: the volume itself belongs to root.
        value("WEFT_STATE_DIR", format!("{STATE_DIR}/proxy")),
        value("WEFT_LOG", overrides.log.as_ref().unwrap_or(&settings.log)),
    ];
    env.extend(overrides.workers.map(|n| value("WEFT_WORKERS", n)));
    let drain = overrides.drain_timeout.map(|timeout| timeout.as_secs());
    env.extend(drain.map(|seconds| value("WEFT_DRAIN_TIMEOUT", seconds)));
    env.push(value(PROBES, probes_value(asked)));
    let mut container = container(names::PROXY_CONTAINER, "run", settings, overrides, env);
    let ready = json!({"path": "/healthz/ready", "port": HEALTH_PORT});
    let more = json!({
        "restartPolicy": "Always",
        "ports": [
            {"name": "weft-metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
            {"name": "weft-health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
        ],
        "startupProbe": {"httpGet": ready, "periodSeconds": 1, "failureThreshold": STARTUP_SECONDS},
        "readinessProbe": {"httpGet": ready, "periodSeconds": 2, "failureThreshold": 3},
        "securityContext": {
            "runAsUser": PROXY_UID,
            "runAsGroup": PROXY_UID,
            "runAsNonRoot": true,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "privileged": false,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": names::STATE_VOLUME, "mountPath": STATE_DIR},
            {"name": names::TOKEN_VOLUME, "mountPath": TOKEN_DIR, "readOnly": true},
            {"name": names::TRUST_VOLUME, "mountPath": TRUST_DIR, "readOnly": true},
        ],
    });
    extend(&mut container, more);
    container
}

/// What both have in common.
fn container(
    name: &str,
    command: &str,
    settings: &InjectSettings,
    overrides: &Overrides,
    env: Vec<Value>,
) -> Value {
    let mut container = json!({"name": name, "image": settings.image});
    if let Some(policy) = &settings.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    let more = json!({
        "args": [command],
        "env": env,
        "resources": resources(&settings.resources, &overrides.resources),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    extend(&mut container, more);
    container
}

fn extend(container: &mut Value, more: Value) {
    if let (Value::Object(container), Value::Object(more)) = (container, more) {
        container.extend(more);
    }
}

fn resources(usual: &Resources, own: &Resources) -> Value {
    let of = |cpu: [&Option<String>; 2], memory: [&Option<String>; 2]| {
        let chosen = |[own, usual]: [&Option<String>; 2]| own.clone().or_else(|| usual.clone());
        let both = [("cpu", chosen(cpu)), ("memory", chosen(memory))];
        let set = both
            .into_iter()
            .filter_map(|(name, amount)| Some((name.to_owned(), amount?.into())));
        set.collect::<Map<String, Value>>()
    };
    let requests = of(
        [&own.cpu_request, &usual.cpu_request],
        [&own.memory_request, &usual.memory_request],
    );
    let limits = of(
        [&own.cpu_limit, &usual.cpu_limit],
        [&own.memory_limit, &usual.memory_limit],
    );
    let both = [("requests", requests), ("limits", limits)];
    let set = both.into_iter().filter(|(_, amounts)| !amounts.is_empty());
    set.map(|(name, amounts)| (name.to_owned(), amounts.into()))
        .collect::<Map<_, _>>()
        .into()
}

fn volumes() -> [Value; 3] {
    [
        // In memory, and there as long as the pod: a restarted proxy finds its key again.
        json!({"name": names::STATE_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}),
        json!({"name": names::TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": {
            "path": "token",
            "audience": names::TOKEN_AUDIENCE,
            "expirationSeconds": TOKEN_SECONDS,
        }}]}}),
        json!({"name": names::TRUST_VOLUME, "configMap": {"name": names::TRUST_VOLUME}}),
    ]
}

fn value(name: &str, value: impl ToString) -> Value {
    json!({"name": name, "value": value.to_string()})
}

fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

fn joined(items: &[impl ToString]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    items.join(",")
}
