//! Routes, where the Gateway API's conformance suite does not look in a mesh: where redirects lead, what
//! backends get to see, and what routes say of themselves.

use anyhow::Context;
use serde_json::{Value, json};
use weft_tests::cluster::{Fact, Namespace, TOOLS, Trial, client, until};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

use crate::status::told;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(redirects_lead_where_their_rules_say),
        cluster_test!(backends_see_what_rules_make_of_requests),
        cluster_test!(routes_say_what_of_them_is_in_force),
    ]
}

/// A Service that tells what it was asked, and somebody who asks.
async fn shop(trial: &Trial) -> anyhow::Result<Namespace> {
    let ns = trial.meshed("routes").await?;
    let labels = json!({"app": "web"});
    let web = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        },
        {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": labels},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [
                {"name": "web", "image": TOOLS, "command": ["weft-echo", "--http", "8080"]},
            ]},
        },
    ]});
    ns.apply(&web.to_string()).await?;
    ns.apply(&client("client", None)).await?;
    for pod in ["web", "client"] {
        ns.ready(pod).await?;
    }
    Ok(ns)
}

/// An HTTPRoute on the Service.
fn route(name: &str, rules: &Value) -> String {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "web"}],
            "rules": rules,
        },
    })
    .to_string()
}

fn at(path: &str) -> Value {
    json!([{"path": {"type": "PathPrefix", "value": path}}])
}

const ACCEPTED: &str = "/status/parents/0/conditions";

/// Applies a route and waits until it is in force at the client.
async fn in_force(ns: &Namespace, rules: &Value) -> anyhow::Result<()> {
    ns.apply(&route("web", rules)).await?;
    told(ns, "httproute/web", ACCEPTED, "Accepted", "Accepted").await?;
    until("no request goes past the route", async || {
        let (status, _) = ask(ns, "http://web/matched/by/nothing").await?;
        Ok(Fact::when(status == 404, status))
    })
    .await
}

/// Status of the answer, and its header `Location`.
async fn ask(ns: &Namespace, url: &str) -> anyhow::Result<(u16, String)> {
    let wanted = "%{http_code} %header{location}";
    let args = ["-o", "/dev/null", "-w", wanted, url];
    let answer = ns.curl("client", &args).await?.out();
    let (status, location) = answer.split_once(' ').context("curl says nothing")?;
    Ok((status.parse()?, location.trim().to_owned()))
}

const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// A rule for each part of a redirect, and for each status.
fn redirects() -> Value {
    let filters = |to: &Value| json!([{"type": "RequestRedirect", "requestRedirect": to}]);
    let rule = |path: &str, to: Value| json!({"matches": at(path), "filters": filters(&to)});
    let host = json!({"hostname": "example.org"});
    let prefix = json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"});
    let whole = json!({"type": "ReplaceFullPath", "replaceFullPath": "/all"});
    let of_backend = json!([{"name": "web", "port": 80, "filters": filters(&host)}]);
    let mut rules = vec![
        json!({"matches": at("/share"), "backendRefs": of_backend}),
        rule("/host", host),
        rule("/port", json!({"port": 8083})),
        rule("/scheme", json!({"scheme": "https"})),
        rule("/scheme-port", json!({"scheme": "https", "port": 8443})),
        rule("/old", json!({"path": prefix})),
        rule("/whole", json!({"path": whole, "hostname": "example.org"})),
    ];
    for status in STATUSES {
        let to = json!({"statusCode": status, "hostname": "example.org"});
        rules.push(rule(&format!("/{status}"), to));
    }
    rules.into()
}

async fn redirects_lead_where_their_rules_say(trial: &Trial) -> anyhow::Result<()> {
    let ns = shop(trial).await?;
    in_force(&ns, &redirects()).await?;
    for (path, location) in [
        ("/host/a?b=c", "http://example.org/host/a?b=c"),
        ("/port", "http://web:8083/port"),
        ("/scheme", "https://web/scheme"),
        ("/scheme-port", "https://web:8443/scheme-port"),
        ("/old/a?b=c", "http://web/new/a?b=c"),
        ("/old", "http://web/new"),
        ("/whole/a?b=c", "http://example.org/all?b=c"),
        ("/share", "http://example.org/share"),
    ] {
        let answer = ask(&ns, &format!("http://web{path}")).await?;
        assert_eq!(answer, (302, location.to_owned()), "{path}");
    }
    for status in STATUSES {
        let answer = ask(&ns, &format!("http://web/{status}/a")).await?;
        let location = format!("http://example.org/{status}/a");
        assert_eq!(answer, (status, location));
    }
    Ok(())
}

/// What the backend saw of a request.
async fn seen(ns: &Namespace, path: &str) -> anyhow::Result<Value> {
    let url = format!("http://web{path}");
    let answer = ns.curl("client", &["-H", "x-gone: here", &url]).await?;
    serde_json::from_str(&answer.out())
        .with_context(|| format!("{path}: {} {}", answer.out(), answer.err()))
}

async fn backends_see_what_rules_make_of_requests(trial: &Trial) -> anyhow::Result<()> {
    let ns = shop(trial).await?;
    let rewrite = |to: Value| json!([{"type": "URLRewrite", "urlRewrite": to}]);
    let prefix = |to: &str| {
        rewrite(json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": to}}))
    };
    let whole = json!({
        "hostname": "example.org",
        "path": {"type": "ReplaceFullPath", "replaceFullPath": "/all"},
    });
    let headers = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {
        "set": [{"name": "x-set", "value": "rule"}], "remove": ["x-gone"],
    }}]);
    let of_backend = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {
        "set": [{"name": "x-backend", "value": "web"}],
    }}]);
    let to = |filters: Value| json!([{"name": "web", "port": 80, "filters": filters}]);
    let rules = json!([
        {"matches": at("/old"), "filters": prefix("/new"), "backendRefs": to(json!([]))},
        {"matches": at("/off"), "filters": prefix("/"), "backendRefs": to(json!([]))},
        {"matches": at("/whole"), "filters": rewrite(whole), "backendRefs": to(json!([]))},
        {"matches": at("/headers"), "filters": headers, "backendRefs": to(of_backend)},
        {"matches": at("/share"), "backendRefs": to(prefix("/of/the/backend"))},
    ]);
    in_force(&ns, &rules).await?;

    for (asked, path, host) in [
        ("/old/a?b=c", "/new/a?b=c", "web"),
        ("/old", "/new", "web"),
        ("/off/a", "/a", "web"),
        ("/whole/a?b=c", "/all?b=c", "example.org"),
        ("/headers", "/headers", "web"),
        ("/share/a", "/of/the/backend/a", "web"),
    ] {
        let seen = seen(&ns, asked).await?;
        let found = (&seen["path"], &seen["headers"]["host"]);
        assert_eq!(found, (&json!(path), &json!(host)), "{asked}: {seen}");
    }
    let headers = &seen(&ns, "/headers").await?["headers"];
    assert_eq!(headers["x-set"], "rule", "{headers}");
    assert_eq!(headers["x-backend"], "web", "{headers}");
    assert_eq!(headers["x-gone"], Value::Null, "{headers}");
    Ok(())
}

async fn routes_say_what_of_them_is_in_force(trial: &Trial) -> anyhow::Result<()> {
    let ns = shop(trial).await?;
    let web = json!({"name": "web", "port": 80});
    let rules = json!([
        {"matches": at("/half"), "backendRefs": [web, {"name": "absent", "port": 80}]},
        {"matches": [{"path": {"type": "RegularExpression", "value": "/a+"}}], "backendRefs": [web]},
    ]);
    in_force(&ns, &rules).await?;
    told(
        &ns,
        "httproute/web",
        ACCEPTED,
        "ResolvedRefs",
        "BackendNotFound",
    )
    .await?;
    let route = ns.object("httproute", "web").await?;
    let conditions = route.pointer(ACCEPTED).and_then(Value::as_array);
    let mut conditions: Vec<String> = conditions.context("none")?.iter().map(summary).collect();
    conditions.sort_unstable();
    assert_eq!(
        conditions,
        [
            "Accepted=True: Accepted",
            "PartiallyInvalid=True: UnsupportedValue",
            "ResolvedRefs=False: BackendNotFound",
        ]
    );
    // The backend that is there gets its share, and the other one's is refused.
    let args = [
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}\n",
        "http://web/half?[1-64]",
    ];
    let answers = ns.curl("client", &args).await?.out();
    let mut statuses: Vec<&str> = answers.split_whitespace().collect();
    assert_eq!(statuses.len(), 64, "{answers}");
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, ["200", "500"]);
    refusals_have_their_reasons(&ns).await
}

async fn refusals_have_their_reasons(ns: &Namespace) -> anyhow::Result<()> {
    let refused = |parent: &Value, backend: &Value| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "refused"},
            "spec": {"parentRefs": [parent], "rules": [{"backendRefs": [backend]}]},
        })
    };
    let service = |name: &str| json!({"group": "", "kind": "Service", "name": name});
    let port = json!({"group": "", "kind": "Service", "name": "web", "port": 81});
    let web = json!({"name": "web", "port": 80});
    let secret = json!({"group": "", "kind": "Secret", "name": "web", "port": 80});
    for (parent, backend, condition, reason) in [
        (service("absent"), &web, "Accepted", "NoMatchingParent"),
        (port, &web, "Accepted", "NoMatchingParent"),
        (service("web"), &secret, "ResolvedRefs", "InvalidKind"),
        (service("web"), &web, "ResolvedRefs", "ResolvedRefs"),
    ] {
        ns.apply(&refused(&parent, backend).to_string()).await?;
        told(ns, "httproute/refused", ACCEPTED, condition, reason).await?;
    }
    Ok(())
}

fn summary(condition: &Value) -> String {
    let part = |name: &str| condition[name].as_str().unwrap_or_default();
    format!("{}={}: {}", part("type"), part("status"), part("reason"))
}
