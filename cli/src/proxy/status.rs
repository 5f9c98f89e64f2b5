//! `weft proxy status`: the control plane's answer about connected proxies, and the pods whose proxies are not connected.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::duration;
use crate::run_dir::RunDir;
use crate::table::{Align, Table};

/// The answer of `/v1/proxies` with `unconnected`: names of meshed pods, `namespace/name`.
pub(super) async fn ask(run_dir: &RunDir) -> Result<Value> {
    let mut answer = run_dir.control_plane().get("/v1/proxies").await?;
    // Without a supervisor here (a control plane alone) there is no telling which pods there should be.
    let pods = run_dir.status().await.map(|status| status.pods);
    let meshed = pods.into_iter().flatten().filter(|pod| pod.meshed);
    let names: BTreeSet<String> = meshed
        .map(|pod| format!("{}/{}", pod.namespace, pod.name))
        .collect();
    let connected: BTreeSet<String> = proxies(&answer).map(|proxy| text(&proxy["pod"])).collect();
    let unconnected: Vec<&String> = names.difference(&connected).collect();
    answer["unconnected"] = json!(unconnected);
    Ok(answer)
}

pub(super) fn proxies(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["proxies"].as_array().into_iter().flatten()
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(Value::as_str)
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The proxies in a table, then what they refuse.
pub(super) fn table(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("POD", Align::Left),
        ("IDENTITY", Align::Left),
        ("CONNECTED", Align::Right),
        ("STATE", Align::Left),
    ]);
    for proxy in proxies(answer) {
        let since = proxy["connectedSeconds"].as_u64().unwrap_or_default();
        table.row(vec![
            text(&proxy["pod"]),
            text(&proxy["identity"]),
            duration::rough(Duration::from_secs(since)),
            state(proxy),
        ]);
    }
    for pod in strings(&answer["unconnected"]) {
        let state = "not connected: see its log".to_owned();
        table.row(vec![pod.to_owned(), "-".into(), "-".into(), state]);
    }
    format!("{}{}", table.render(), refusals(answer))
}

/// What proxies refuse, a line each under a heading; nothing if they refuse nothing.
pub(super) fn refusals(answer: &Value) -> String {
    let mut out = String::new();
    for proxy in proxies(answer) {
        for one in proxy["refusals"].as_array().into_iter().flatten() {
            out += &format!("  {}: {}\n", text(&proxy["pod"]), refusal(one));
        }
    }
    if !out.is_empty() {
        out.insert_str(0, "\nRefused, so that what was in force before still is:\n");
    }
    out
}

pub(super) fn state(proxy: &Value) -> String {
    let refused = proxy["refusals"].as_array().map_or(0, Vec::len);
    let pending: Vec<&str> = strings(&proxy["pending"]).collect();
    match (proxy["upToDate"].as_bool(), refused, pending.as_slice()) {
        (Some(true), ..) => "up to date".into(),
        (_, 1.., _) => format!("refuses {refused}"),
        (_, 0, []) => "behind".into(),
        (_, 0, pending) => format!("behind: {}", pending.join(", ")),
    }
}

/// `Type name: field: reason`.
pub(crate) fn refusal(value: &Value) -> String {
    let parts = ["resource", "field", "reason"].map(|part| text(&value[part]));
    let said: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    said.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_proxy_says_how_far_it_is_and_refusals_say_why() {
        let refusal =
            json!({"resource": "Service shop/web?from=shop", "field": "", "reason": "odd"});
        let proxy = |pod: &str, up_to_date: bool| {
            json!({
                "pod": pod, "identity": "spiffe://cluster.local/ns/shop/sa/a", "connectedSeconds": 61,
                "upToDate": up_to_date, "refusals": [], "pending": [],
            })
        };
        let mut refusing = proxy("shop/b", false);
        refusing["refusals"] = json!([refusal]);
        let mut behind = proxy("shop/c", false);
        behind["pending"] = json!(["Inbound shop/c"]);
        let answer = json!({
            "proxies": [proxy("shop/a", true), refusing, behind],
            "unconnected": ["shop/d"],
        });
        assert_eq!(
            table(&answer),
            "POD      IDENTITY                              CONNECTED   STATE\n\
             shop/a   spiffe://cluster.local/ns/shop/sa/a        1m1s   up to date\n\
             shop/b   spiffe://cluster.local/ns/shop/sa/a        1m1s   refuses 1\n\
             shop/c   spiffe://cluster.local/ns/shop/sa/a        1m1s   behind: Inbound shop/c\n\
             shop/d   -                                             -   not connected: see its log\n\
             \n\
             Refused, so that what was in force before still is:\n\
             \x20 shop/b: Service shop/web?from=shop: odd\n"
        );
    }
}
