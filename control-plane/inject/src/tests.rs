//! Who gets a proxy, who is refused and by which field, and what a second call does.

use serde_json::{Value, json};

use super::*;
use crate::names::*;

fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [{
            "name": "web",
            "image": "web",
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
        }]},
    })
}

/// The pod with a value at a JSON pointer whose last step may be new.
fn with(mut pod: Value, at: &str, value: Value) -> Value {
    let (parent, last) = at.rsplit_once('/').unwrap();
    let last = last.replace("~1", "/");
    pod.pointer_mut(parent).unwrap()[last] = value;
    pod
}

fn annotated(name: &str, value: &str) -> Value {
    with(pod(), "/metadata/annotations", json!({name: value}))
}

fn in_mesh(pod: &Value) -> Outcome {
    inject(pod, &Namespace::in_mesh(), &InjectSettings::default())
}

fn injected(pod: &Value) -> Injected {
    match in_mesh(pod) {
        Outcome::Injected(injected) => *injected,
        other => panic!("{other:?}"),
    }
}

fn refusal(pod: &Value) -> String {
    match in_mesh(pod) {
        Outcome::Refused(refusal) => refusal.to_string(),
        other => panic!("{other:?}"),
    }
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let items = pod["spec"][list].as_array().unwrap().iter();
    items
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect()
}

fn questions(pod: &Value) -> Value {
    let asked = sidecar::probes_of(&Pod::read(pod.clone()).unwrap()).unwrap();
    json!(asked)
}

#[test]
fn the_pod_decides_before_its_namespace_and_its_label_before_its_annotation() {
    let outside = Namespace::default();
    let labelled = |value| with(pod(), "/metadata/labels", json!({INJECT: value}));
    let is_in = |pod: &Value, namespace: &Namespace| {
        let outcome = inject(pod, namespace, &InjectSettings::default());
        matches!(outcome, Outcome::Injected(_))
    };
    assert!(!is_in(&pod(), &outside));
    assert!(is_in(&pod(), &Namespace::in_mesh()));
    assert!(is_in(&labelled("enabled"), &outside));
    assert!(!is_in(&labelled("disabled"), &Namespace::in_mesh()));
    assert!(is_in(&annotated(INJECT, "enabled"), &outside));
    assert!(!is_in(
        &annotated(INJECT, "disabled"),
        &Namespace::in_mesh()
    ));
    let both = with(
        annotated(INJECT, "disabled"),
        "/metadata/labels",
        json!({INJECT: "enabled"}),
    );
    assert!(is_in(&both, &outside));
    assert_eq!(
        refusal(&labelled("true")),
        r#"metadata.labels["mesh.weft.dev/inject"]: "true" is neither enabled nor disabled"#
    );
}

#[test]
fn the_nodes_network_has_no_proxy_and_only_who_asked_for_one_is_refused() {
    let host = with(pod(), "/spec/hostNetwork", json!(true));
    let Outcome::NotWanted { reason, warn: true } = in_mesh(&host) else {
        panic!("people are told");
    };
    assert!(reason.starts_with("spec.hostNetwork: "), "{reason}");
    let asked = with(host, "/metadata/labels", json!({INJECT: "enabled"}));
    assert!(refusal(&asked).starts_with("spec.hostNetwork: "));
}

#[test]
fn what_would_break_the_proxy_is_refused_by_its_field() {
    let user = json!({"runAsUser": 1337});
    for (at, value, expected) in [
        (
            "/spec/securityContext",
            user.clone(),
            "spec.securityContext.runAsUser: 1337 is",
        ),
        (
            "/spec/containers/0/securityContext",
            user,
            "spec.containers[web].securityContext.runAsUser: 1337 is",
        ),
        (
            "/spec/containers/0/ports",
            json!([{"containerPort": 80}, {"containerPort": 15001}]),
            "spec.containers[web].ports[1].containerPort: 15001 is a port of the proxy",
        ),
        (
            "/spec/containers/0/readinessProbe",
            json!({"tcpSocket": {"port": "https"}}),
            "spec.containers[web].readinessProbe.tcpSocket.port: the container has no port named \"https\"",
        ),
        (
            "/spec/containers/0/lifecycle",
            json!({"postStart": {"httpGet": {"path": "/"}}}),
            "spec.containers[web].lifecycle.postStart.httpGet.port: is required",
        ),
        (
            "/spec/volumes",
            json!([{"name": "weft-state", "emptyDir": {}}]),
            "spec.volumes[weft-state]: this name is the mesh's own",
        ),
        (
            "/spec/initContainers",
            json!([{"name": "weft-proxy"}]),
            "spec.initContainers[weft-proxy]: this name is the mesh's own",
        ),
        (
            "/spec/containers",
            json!({}),
            "spec.containers: must be a list",
        ),
        (
            "/spec/containers",
            json!([{}]),
            "spec.containers[0].name: is required",
        ),
        (
            "/metadata/labels",
            json!({"a": 1}),
            "metadata.labels: must be a map of strings",
        ),
    ] {
        let refusal = refusal(&with(pod(), at, value));
        assert!(refusal.starts_with(expected), "{refusal}");
    }
}

#[test]
fn an_annotation_that_cannot_be_read_is_named_with_its_value() {
    for (name, value, expected) in [
        (CPU_REQUEST, "lots", "a quantity such as"),
        (MEMORY_LIMIT, "0", "a quantity such as"),
        (MEMORY_REQUEST, "64MB", "a quantity such as"),
        (LOG, "loud", "one of off, error"),
        (WORKERS, "-1", "a number of threads"),
        (DRAIN_TIMEOUT, "30", "a duration in whole seconds"),
        (DRAIN_TIMEOUT, "1500ms", "a duration in whole seconds"),
        (SKIP_INBOUND_PORTS, "80,http", "a list of ports"),
        (SKIP_OUTBOUND_PORTS, "70000", "a list of ports"),
        (SKIP_OUTBOUND_CIDRS, "10.0.0.0", "a list of ranges"),
        (REWRITE_PROBES, "no", "enabled or disabled"),
    ] {
        let refusal = refusal(&annotated(name, value));
        let start = format!("metadata.annotations[\"{name}\"]: {value:?} is not {expected}");
        assert!(refusal.starts_with(&start), "{refusal}");
    }
}

#[test]
fn a_namespace_gives_defaults_and_is_named_where_they_are_wrong() {
    let mut namespace = Namespace::in_mesh();
    let mut annotate = |value: &str| {
        namespace
            .annotations
            .insert(LOG.to_owned(), value.to_owned());
        namespace.clone()
    };
    let log = |pod: &Value, namespace: &Namespace| match inject(
        pod,
        namespace,
        &InjectSettings::default(),
    ) {
        Outcome::Injected(injected) => {
            let env = injected.pod["spec"]["initContainers"][1]["env"].clone();
            let mut env = env.as_array().unwrap().iter();
            let log = env.find(|variable| variable["name"] == "WEFT_LOG").unwrap();
            log["value"].as_str().unwrap().to_owned()
        }
        other => format!("{other:?}"),
    };
    assert_eq!(log(&pod(), &annotate("debug")), "debug");
    assert_eq!(log(&annotated(LOG, "warn"), &annotate("debug")), "warn");
    assert!(log(&pod(), &annotate("loud")).contains("of the namespace"));
}

#[test]
fn an_annotation_of_ours_that_does_not_exist_is_mentioned() {
    let warnings = injected(&annotated("mesh.weft.dev/skip-inbound-port", "80")).warnings;
    assert_eq!(
        warnings,
        [
            r#"metadata.annotations["mesh.weft.dev/skip-inbound-port"]: means nothing to Weft; did you mean mesh.weft.dev/skip-inbound-ports?"#
        ]
    );
}

#[test]
fn a_second_call_changes_nothing() {
    let first = injected(&pod());
    assert!(!first.patch.is_empty());
    assert_eq!(injected(&first.pod).patch, Vec::<Value>::new());
}

#[test]
fn a_second_call_takes_in_what_others_added_meanwhile() {
    let mut changed = injected(&pod()).pod;
    // Another webhook: an init container before ours, a container with a probe, and a variable in each.
    let init = changed["spec"]["initContainers"].as_array_mut().unwrap();
    init.insert(0, json!({"name": "vault", "image": "vault"}));
    let seen = json!({"name": "OTHERS", "value": "1"});
    init[2]["env"].as_array_mut().unwrap().push(seen.clone());
    let agent =
        json!({"name": "agent", "livenessProbe": {"grpc": {"port": 9000}, "timeoutSeconds": 4}});
    changed["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(agent);

    let second = injected(&changed).pod;
    assert_eq!(
        names(&second, "initContainers"),
        ["weft-init", "weft-proxy", "vault"]
    );
    let env = second["spec"]["initContainers"][1]["env"]
        .as_array()
        .unwrap();
    assert!(env.contains(&seen), "what others added stays");
    assert_eq!(
        questions(&second),
        json!({
            "agent/livez": {"grpc": {"port": 9000}, "timeoutSeconds": 4},
            "web/readyz": {"httpGet": {"path": "/", "port": 8080}, "timeoutSeconds": 1},
        })
    );
    let agent = &second["spec"]["containers"][1];
    assert_eq!(
        agent["livenessProbe"],
        json!({"httpGet": {"path": "/weft/probe/agent/livez", "port": 15021}, "timeoutSeconds": 4})
    );
    assert_eq!(agent["lifecycle"]["preStop"]["sleep"]["seconds"], 5);
    assert_eq!(
        second["metadata"]["annotations"][PRE_STOP_SLEEP],
        "web,agent"
    );
    assert_eq!(injected(&second).patch, Vec::<Value>::new());
}

#[test]
fn a_pod_copied_without_its_proxy_cannot_ask_one() {
    let copied = with(
        pod(),
        "/spec/containers/0/readinessProbe",
        json!({"httpGet": {"path": "/weft/probe/web/readyz", "port": 15021}}),
    );
    let refusal = refusal(&copied);
    let start = "spec.containers[web].readinessProbe.httpGet.path: asks the proxy";
    assert!(refusal.starts_with(start), "{refusal}");
}

#[test]
fn uninject_gives_back_what_was_there_with_ports_as_numbers() {
    let back = uninject(&injected(&pod()).pod).unwrap();
    let numbered = with(
        pod(),
        "/spec/containers/0/readinessProbe/httpGet/port",
        json!(8080),
    );
    assert_eq!(back, numbered);
    assert_eq!(uninject(&pod()).unwrap(), pod(), "nothing to take out");
}

#[test]
fn the_sleep_leaves_half_of_a_short_grace_period() {
    for (grace, sleep) in [
        (30, json!(5)),
        (4, json!(2)),
        (1, Value::Null),
        (0, Value::Null),
    ] {
        let pod = with(pod(), "/spec/terminationGracePeriodSeconds", json!(grace));
        let hook = &injected(&pod).pod["spec"]["containers"][0]["lifecycle"]["preStop"];
        assert_eq!(hook["sleep"]["seconds"], sleep, "{grace}");
    }
}
