//! What is run of a pod's specification, and what is refused.

use serde_json::{Value as Json, json};
use weft_inject::Asked;
use weft_inject::names::INJECT;

use super::*;
use crate::pod::probe::Action;

fn parse(spec: Json) -> Result<PodTemplate, Vec<String>> {
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": {"name": "conf"},
        "data": {"a.conf": "A", "b.conf": "B"},
    }))
    .unwrap();
    let maps = BTreeMap::from([(Key::new("shop", "conf"), &map)]);
    let spec = serde_json::from_value(spec).unwrap();
    let result = PodTemplate::parse("shop", ObjectMeta::default(), spec, &maps);
    result.map_err(|all| all.into_iter().map(|one| one.field).collect())
}

#[test]
fn a_word_on_the_mesh_that_means_nothing_is_refused_as_in_a_cluster() {
    let parse = |labels: Json, annotations: Json| {
        let meta = serde_json::from_value(json!({"labels": labels, "annotations": annotations}));
        let spec = serde_json::from_value(container(json!({}))).unwrap();
        PodTemplate::parse("shop", meta.unwrap(), spec, &BTreeMap::new())
    };
    let refused = parse(json!({INJECT: "true"}), json!({})).unwrap_err();
    assert_eq!(refused[0].field, format!("metadata.labels[\"{INJECT}\"]"));
    // The label comes first.
    let template = parse(json!({INJECT: "enabled"}), json!({INJECT: "disabled"}));
    assert_eq!(template.unwrap().asked(None), Ok(Asked::ByPod));
}

fn container(fields: Json) -> Json {
    let mut container = json!({"name": "c", "image": "x", "command": ["run"]});
    for (name, value) in fields.as_object().unwrap() {
        container[name] = value.clone();
    }
    json!({"containers": [container]})
}

#[test]
fn the_command_is_the_containers_or_the_images() {
    let argv = |fields| {
        parse(container(fields)).unwrap().containers[0]
            .argv
            .join(" ")
    };
    assert_eq!(argv(json!({"args": ["fast"]})), "run fast");
    assert_eq!(
        argv(json!({"image": "nginx:1", "command": []})),
        "nginx -g daemon off;"
    );
    assert_eq!(
        argv(json!({"image": "nginx:1", "command": [], "args": ["-t"]})),
        "nginx -t"
    );
    let refused = parse(container(json!({"image": "mysql:8", "command": []})));
    assert_eq!(refused.unwrap_err(), ["spec.containers[c].command"]);
}

#[test]
fn config_maps_become_files_and_variables() {
    let mut spec = container(json!({
        "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "a.conf"}}}],
        "volumeMounts": [{"name": "v", "mountPath": "/etc/c", "readOnly": true}],
    }));
    spec["volumes"] = json!([{"name": "v", "configMap": {"name": "conf", "items": [{"key": "b.conf", "path": "sub/b"}]}}]);
    let template = parse(spec).unwrap();
    assert_eq!(
        template.volumes["v"],
        BTreeMap::from([("sub/b".into(), "B".to_owned())])
    );
    assert_eq!(
        template.containers[0].env,
        [("A".to_owned(), Value::Literal("A".to_owned()))]
    );
    assert!(template.containers[0].mounts[0].read_only);
}

#[test]
fn probes_find_ports_by_name() {
    let template = parse(container(json!({
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": "http"}},
    })))
    .unwrap();
    let probe = template.containers[0].probes.readiness.as_ref().unwrap();
    assert_eq!(probe.action, Action::Tcp { port: 8080 });
}

#[test]
fn what_cannot_be_had_is_refused_by_name() {
    let cases = [
        (
            json!({"securityContext": {"runAsUser": 1337}}),
            "spec.containers[c].securityContext.runAsUser",
        ),
        (
            json!({"readinessProbe": {"httpGet": {"port": "none"}}}),
            "spec.containers[c].readinessProbe",
        ),
        (
            json!({"livenessProbe": {"httpGet": {"port": 1, "scheme": "HTTPS"}}}),
            "spec.containers[c].livenessProbe",
        ),
        (
            json!({"envFrom": [{"secretRef": {"name": "s"}}]}),
            "spec.containers[c].envFrom",
        ),
        (
            json!({"env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k"}}}]}),
            "spec.containers[c].env[E]",
        ),
        (
            json!({"env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
            "spec.containers[c].env[S].valueFrom",
        ),
        (
            json!({"volumeMounts": [{"name": "none", "mountPath": "/x"}]}),
            "spec.containers[c].volumeMounts[none]",
        ),
        (
            json!({"lifecycle": {"postStart": {"exec": {"command": ["x"]}}}}),
            "spec.containers[c].lifecycle.postStart",
        ),
    ];
    for (fields, field) in cases {
        assert_eq!(parse(container(fields)).unwrap_err(), [field]);
    }
    let mut spec = container(json!({}));
    spec["hostNetwork"] = json!(true);
    spec["initContainers"] = json!([{"name": "i"}]);
    spec["volumes"] = json!([{"name": "h", "hostPath": {"path": "/"}}]);
    assert_eq!(
        parse(spec).unwrap_err(),
        ["spec.initContainers", "spec.hostNetwork", "spec.volumes[h]"]
    );
}

#[test]
fn what_is_read_arrives_in_the_template() {
    let mut spec = container(json!({
        "workingDir": "/srv",
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "conf"}}],
        "env": [{"name": "L", "value": "v"}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "startupProbe": {"exec": {"command": ["ok"]}},
        "livenessProbe": {"httpGet": {"port": 80, "path": "/live"}, "periodSeconds": 7, "failureThreshold": 2},
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "volumeMounts": [{"name": "v", "mountPath": "/tmp/v", "subPath": "sub"}],
    }));
    spec["securityContext"] = json!({"runAsUser": 7, "runAsGroup": 8});
    spec["terminationGracePeriodSeconds"] = json!(9);
    spec["hostname"] = json!("host");
    spec["restartPolicy"] = json!("OnFailure");
    spec["serviceAccountName"] = json!("account");
    spec["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    let template = parse(spec).unwrap();
    assert_eq!(template.termination_grace_seconds, 9);
    assert_eq!(template.hostname.as_deref(), Some("host"));
    assert_eq!(template.restart, Restart::OnFailure);
    assert_eq!(template.service_account, "account");
    assert_eq!(template.volumes["v"], BTreeMap::new());
    let one = &template.containers[0];
    assert_eq!((one.uid, one.gid), (7, 8));
    assert_eq!(one.working_dir.as_deref(), Some("/srv"));
    let literal = |name: &str, text: &str| (name.to_owned(), Value::Literal(text.to_owned()));
    assert_eq!(
        one.env,
        [
            literal("P_a.conf", "A"),
            literal("P_b.conf", "B"),
            literal("L", "v"),
            ("N".to_owned(), Value::Field(Field::Name)),
        ]
    );
    let startup = one.probes.startup.as_ref().unwrap();
    assert_eq!(startup.action, Action::Exec(vec!["ok".to_owned()]));
    let liveness = one.probes.liveness.as_ref().unwrap();
    assert_eq!(
        (liveness.period.as_secs(), liveness.failure_threshold),
        (7, 2)
    );
    assert_eq!(one.pre_stop, Some(PreStop::Sleep(5)));
    assert_eq!(one.mounts[0].sub_path, PathBuf::from("sub"));
}

#[test]
fn the_hash_changes_with_the_template_and_with_a_restart() {
    let template = parse(container(json!({}))).unwrap();
    let other = parse(container(json!({"args": ["x"]}))).unwrap();
    assert_eq!(
        template.hash(0),
        parse(container(json!({}))).unwrap().hash(0)
    );
    assert_ne!(template.hash(0), other.hash(0));
    assert_ne!(template.hash(0), template.hash(1));
}
