use super::*;
use serde_json::json;

fn faults(kind: Kind, raw: Value) -> Vec<String> {
    let line = |fault: &Fault| format!("{}: {}", fault.field, fault.message);
    parse(kind, &raw).faults.iter().map(line).collect()
}

fn policy(spec: Value) -> Value {
    json!({"apiVersion": "mesh.weft.dev/v1alpha1", "kind": "AuthorizationPolicy", "metadata": {"name": "p"}, "spec": spec})
}

#[test]
fn every_type_error_is_reported_at_its_original_position() {
    let raw = policy(json!({"rules": [
        {"from": [{"namespaces": [1, "a", true, "b"]}]},
        {"to": [{"ports": [80, -1, 70000]}]},
        "text",
        {"to": [{"ports": ["x"]}], "nmae": "y"},
    ]}));
    assert_eq!(
        faults(Kind::AuthorizationPolicy, raw),
        [
            "spec.rules[0].from[0].namespaces[0]: expected a string, found integer `1`; put it in quotes",
            "spec.rules[0].from[0].namespaces[2]: expected a string, found boolean `true`; put it in quotes",
            "spec.rules[1].to[0].ports[1]: expected a whole number from 0 to 65535, found integer `-1`",
            "spec.rules[1].to[0].ports[2]: expected a whole number from 0 to 65535, found integer `70000`",
            "spec.rules[2]: expected a map, found string \"text\"",
            "spec.rules[3].nmae: AuthorizationPolicy has no such field; did you mean name?",
            "spec.rules[3].to[0].ports[0]: expected a whole number from 0 to 65535, found string \"x\"",
        ]
    );
}

#[test]
fn missing_fields_are_named_once() {
    let raw = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": {"replicas": -1}});
    let found = faults(Kind::Deployment, raw);
    assert!(
        found.contains(&"metadata.name: is required".to_owned()),
        "{found:?}"
    );
    assert!(
        found.contains(&"spec.selector: is empty: it would select every pod".to_owned()),
        "{found:?}"
    );
    assert!(
        found.contains(&"spec.replicas: -1 is not between 0 and 2147483647".to_owned()),
        "{found:?}"
    );

    let raw = json!({"apiVersion": "mesh.weft.dev/v1alpha1", "kind": "TrafficPolicy", "metadata": {"name": "t"}, "spec": {}});
    assert_eq!(
        faults(Kind::TrafficPolicy, raw),
        ["spec.targetRefs: is required"]
    );
    let raw = json!({"apiVersion": "mesh.weft.dev/v1alpha1", "kind": "TrafficPolicy", "metadata": {"name": "t"}});
    assert_eq!(faults(Kind::TrafficPolicy, raw), ["spec: is required"]);
}

#[test]
fn a_required_field_that_is_misspelt_is_named_as_it_is_written() {
    let raw = json!({"apiVersion": "mesh.weft.dev/v1alpha1", "kind": "PeerAuthentication", "metadata": {"name": "p"},
        "spec": {"mtls": {"mod": "STRICT"}}});
    assert_eq!(
        faults(Kind::PeerAuthentication, raw),
        [
            "spec.mtls.mod: PeerAuthentication has no such field; did you mean mode?",
            "spec.mtls.mode: is required",
        ]
    );
    let raw = policy(json!({"rules": [
        {"to": [{"headers": [1, {"nmae": "x", "values": ["a"]}]}]},
    ], "selector": {"matchLables": {"app": "a"}}}));
    assert_eq!(
        faults(Kind::AuthorizationPolicy, raw),
        [
            "spec.rules[0].to[0].headers[0]: expected a map, found integer `1`",
            "spec.rules[0].to[0].headers[1].name: is required",
            "spec.rules[0].to[0].headers[1].nmae: AuthorizationPolicy has no such field; did you mean name?",
            "spec.selector.matchLabels: is required",
            "spec.selector.matchLables: AuthorizationPolicy has no such field; did you mean matchLabels?",
        ]
    );
}

#[test]
fn an_unknown_field_is_found_whatever_it_holds() {
    for value in [
        json!(null),
        json!([]),
        json!({}),
        json!(0),
        json!(""),
        json!([{}]),
        json!({"a": 1}),
    ] {
        let raw = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "lables": value},
            "spec": {"ports": [{"port": 80, "prot": value}]}});
        assert_eq!(
            faults(Kind::Service, raw),
            [
                "metadata.lables: Service has no such field; did you mean labels?",
                "spec.ports[0].prot: Service has no such field; did you mean port?"
            ]
        );
    }
}

#[test]
fn a_known_field_is_known_whatever_it_holds() {
    for value in [json!(null), json!([]), json!({})] {
        let raw = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "s", "creationTimestamp": null},
            "spec": {"containers": [{"name": "a", "resources": {}, "securityContext": null, "args": []}],
                "affinity": null, "volumes": null, "nodeSelector": {}, "tolerations": []}, "status": {}});
        assert_eq!(faults(Kind::Pod, raw), Vec::<String>::new(), "{value}");
    }
    let raw = policy(json!({"selector": null, "rules": null, "action": "DENY"}));
    assert_eq!(faults(Kind::AuthorizationPolicy, raw), Vec::<String>::new());
}

#[test]
fn a_list_is_no_map() {
    let raw = policy(json!({"rules": [["name"]], "selector": [{"app": "web"}]}));
    assert_eq!(
        faults(Kind::AuthorizationPolicy, raw),
        [
            "spec.rules[0]: expected a map, found a list",
            "spec.selector: expected a map, found a list",
        ]
    );
}

#[test]
fn rules_of_the_crds_hold_here_too() {
    let raw = policy(json!({
        "selector": {"matchLabels": {}}, "targetRefs": [{"kind": "Gateway", "name": "g"}],
        "rules": [{"from": [{}], "to": [{"paths": ["api", "/a*b"], "headers": [{"name": "a b"}], "ports": [0]}]},
            {"from": [{"principals": ["cluster.local/ns/a/sa/b"]}], "to": []}]
    }));
    assert_eq!(
        faults(Kind::AuthorizationPolicy, raw),
        [
            "spec.rules[0].from[0]: is empty; leave `from` out to mean anybody",
            "spec.rules[0].to[0].headers[0].name: \"a b\" is not the name of a header",
            "spec.rules[0].to[0].paths[0]: \"api\" does not begin with '/' or '*'",
            "spec.rules[0].to[0].paths[1]: \"/a*b\" has a '*' that is neither at its beginning nor its end",
            "spec.rules[0].to[0].ports[0]: 0 is not between 1 and 65535",
            "spec.rules[1].from[0].principals[0]: \"cluster.local/ns/a/sa/b\" is no SPIFFE ID; write it like spiffe://cluster.local/ns/shop/sa/web",
            "spec.rules[1].to: is empty; leave it out instead",
            "spec.selector.matchLabels: is empty; leave the selector out to mean every pod",
            "spec.targetRefs: selector and targetRefs exclude each other",
            "spec.targetRefs[0].kind: only a Service (group \"\") can be a target",
        ]
    );
    let raw = json!({"apiVersion": "mesh.weft.dev/v1alpha1", "kind": "PeerAuthentication", "metadata": {"name": "p"},
        "spec": {"portLevelMtls": {"http": {"mode": "STRICT"}, "070": {"mode": "off"}}}});
    assert_eq!(
        faults(Kind::PeerAuthentication, raw),
        [
            "spec.portLevelMtls: needs a selector: ports are those of certain pods",
            "spec.portLevelMtls.070.mode: unknown variant `off`, expected `STRICT` or `PERMISSIVE`",
            "spec.portLevelMtls.http: \"http\" is not a port number",
        ]
    );
    let raw = json!({"apiVersion": "mesh.weft.dev/v1alpha1", "kind": "TrafficPolicy", "metadata": {"name": "t"}, "spec": {
        "targetRefs": [], "connections": {"maxRequests": 0, "connectTimeout": "0s", "idleTimeout": "5"},
        "outlierDetection": {"maxEjectionPercent": 101},
        "retries": {"attempts": 11, "retryOn": ["Always"], "codes": [200], "backoff": {"base": "2s", "max": "1s"},
            "bufferLimit": "1Gi", "budget": {"percent": -1}}}});
    assert_eq!(
        faults(Kind::TrafficPolicy, raw),
        [
            "spec.connections.connectTimeout: must be longer than 0s",
            "spec.connections.idleTimeout: \"5\" is not a duration; write it like 500ms, 10s or 1m30s",
            "spec.connections.maxRequests: 0 is not between 1 and 4294967295",
            "spec.outlierDetection.maxEjectionPercent: 101 is not between 0 and 100",
            "spec.retries.attempts: 11 is not between 0 and 10",
            "spec.retries.backoff.max: 1s is shorter than base, which is 2s",
            "spec.retries.budget.percent: expected a whole number from 0 to 4294967295, found integer `-1`",
            "spec.retries.bufferLimit: 1073741824 bytes are more than 16Mi",
            "spec.retries.codes[0]: 200 is not between 400 and 599",
            "spec.retries.retryOn[0]: unknown variant `Always`, expected one of `ConnectFailure`, `Reset`, `GatewayError`, `ServerError`, `Timeout`",
            "spec.targetRefs: is empty; leave it out instead",
        ]
    );
}
