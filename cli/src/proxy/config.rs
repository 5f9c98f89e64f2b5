//! `weft proxy config` for people: what may come in, and where calls go. The proxy's own answer has all the rest.

use serde_json::Value;

use crate::table::{Align, Table};

/// What stands in a proxy's `/config`, in short.
pub(super) fn text(config: &Value) -> String {
    let mut out = format!("pod       {}\n", config["pod"].as_str().unwrap_or("-"));
    let identity = config["certificate"]["identity"].as_str();
    out += &format!(
        "identity  {}\n",
        identity.unwrap_or("none: no certificate yet")
    );
    let ready = match list(&config["readiness"]["missing"]).as_slice() {
        [] => "yes".to_owned(),
        missing => format!("no: {}", joined(missing)),
    };
    out += &format!("ready     {ready}\n");
    let stream = &config["controlPlane"];
    let connected = match stream["connected"].as_bool() {
        Some(true) => "connected".to_owned(),
        _ => format!("not connected: {}", shown(&stream["lastError"])),
    };
    out += &format!("stream    {}, {connected}\n", shown(&stream["address"]));
    for refused in list(&stream["refused"]) {
        let parts = ["kind", "name", "field", "reason"].map(|part| shown(&refused[part]));
        out += &format!("refused   {}\n", parts.join(" "));
    }
    out + &inbound(&config["inbound"]) + &outbound(&config["outbound"])
}

fn inbound(inbound: &Value) -> String {
    if inbound.is_null() {
        return "inbound   none: nothing is let in\n".to_owned();
    }
    let mut out = format!("inbound   mTLS {}\n", shown(&inbound["mtls"]));
    for port in list(&inbound["ports"]) {
        out += &format!(
            "          port {}: {}, mTLS {}\n",
            port["port"],
            shown(&port["protocol"]),
            shown(&port["mtls"])
        );
    }
    for policy in list(&inbound["policies"]) {
        let (name, action) = (shown(&policy["name"]), shown(&policy["action"]));
        out += &format!("          policy {name}: {action}\n");
    }
    out
}

fn outbound(outbound: &Value) -> String {
    let mut table = Table::new(&[
        ("CALLS TO", Align::Left),
        ("ARE FOR", Align::Left),
        ("RULE", Align::Left),
        ("BACKEND", Align::Left),
        ("WEIGHT", Align::Right),
        ("ENDPOINTS", Align::Right),
    ]);
    for entry in list(outbound) {
        let address = shown(&entry["address"]);
        let service = &entry["service"];
        let port = &service["port"];
        let rules = list(&port["rules"]);
        let routed = port["routed"].as_bool().unwrap_or(false);
        if let Some(name) = service["name"].as_str() {
            let whose = format!("{}/{name}:{}", shown(&service["namespace"]), port["port"]);
            for rule in &rules {
                for backend in list(&rule["backends"]) {
                    let place = place(&backend["backend"], shown(&backend["invalid"]));
                    let weight = backend["weight"].to_string();
                    table.row(row(&address, &whose, shown(&rule["name"]), place, weight));
                }
            }
            if rules.is_empty() {
                let rule = if routed { "none matches: 404" } else { "-" };
                let place = place(&port["own"], String::new());
                table.row(row(&address, &whose, rule.into(), place, "-".into()));
            }
        } else {
            let (what, endpoints) = match (&entry["workload"], entry["refused"].as_str()) {
                (Value::Null, None) => ("outside the mesh".to_owned(), "-".to_owned()),
                (Value::Null, Some(reason)) => (format!("refused: {reason}"), "-".to_owned()),
                (workload, _) => place(workload, String::new()),
            };
            let cells = ("-".to_owned(), endpoints);
            table.row(row(&address, &what, "-".into(), cells, "-".into()));
        }
    }
    let nothing_yet = "\nno calls yet: destinations are looked up on first use\n";
    if list(outbound).is_empty() {
        nothing_yet.to_owned()
    } else {
        format!("\n{}", table.render())
    }
}

fn row(
    address: &str,
    whose: &str,
    rule: String,
    (backend, endpoints): (String, String),
    weight: String,
) -> Vec<String> {
    vec![
        address.into(),
        whose.into(),
        rule,
        backend,
        weight,
        endpoints,
    ]
}

/// A backend's name, and its usable endpoints of all; the reason instead where it does not exist.
fn place(backend: &Value, invalid: String) -> (String, String) {
    let Some(name) = backend["backend"].as_str() else {
        return (format!("500: {invalid}"), "-".into());
    };
    let endpoints = list(&backend["endpoints"]);
    let is = |endpoint: &Value, what: &str| endpoint[what].as_bool().unwrap_or(false);
    let usable = endpoints
        .iter()
        .filter(|one| is(one, "ready") && !is(one, "terminating") && !is(one, "ejected"));
    (
        name.to_owned(),
        format!("{}/{}", usable.count(), endpoints.len()),
    )
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().into_iter().flatten().collect()
}

/// Text as it is, anything else as JSON; nothing for null.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn joined(values: &[&Value]) -> String {
    let texts: Vec<String> = values.iter().map(|value| shown(value)).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_proxy_runs_is_readable() {
        let endpoint =
            |ejected: bool| json!({"ready": true, "terminating": false, "ejected": ejected});
        let backend =
            |name: &str| json!({"backend": name, "endpoints": [endpoint(false), endpoint(true)]});
        let text = text(&json!({
            "pod": "shop/a",
            "readiness": {"missing": []},
            "certificate": {"identity": "spiffe://cluster.local/ns/shop/sa/a"},
            "controlPlane": {"address": "10.0.0.1:15010", "connected": true, "refused": []},
            "inbound": {"mtls": "Strict", "ports": [{"port": 80, "protocol": "Http", "mtls": "Permissive"}],
                "policies": [{"name": "shop/p", "action": "Deny", "ports": []}]},
            "outbound": [{"address": "192.0.2.1:443", "passthrough": true}, {
                "address": "10.96.0.1:80",
                "service": {"namespace": "shop", "name": "web", "port": {"port": 80, "routed": true, "rules": [
                    {"name": "HTTPRoute/shop/web/0", "backends": [{"weight": 9, "backend": backend("shop/v1:80")}]},
                ]}},
            }],
        }));
        assert_eq!(
            text,
            "pod       shop/a\n\
             identity  spiffe://cluster.local/ns/shop/sa/a\n\
             ready     yes\n\
             stream    10.0.0.1:15010, connected\n\
             inbound   mTLS Strict\n\
             \x20         port 80: Http, mTLS Permissive\n\
             \x20         policy shop/p: Deny\n\
             \n\
             CALLS TO        ARE FOR            RULE                   BACKEND      WEIGHT   ENDPOINTS\n\
             192.0.2.1:443   outside the mesh   -                      -                 -           -\n\
             10.96.0.1:80    shop/web:80        HTTPRoute/shop/web/0   shop/v1:80        9         1/2\n"
        );
    }
}
