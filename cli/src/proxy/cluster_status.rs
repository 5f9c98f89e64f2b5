//! `weft proxy status` in a cluster: every replica's answer about its streams, joined with the pods that there are.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::status::{proxies, refusals, state, text};
use crate::cluster::{Cluster, Standing, ask_all};
use crate::duration;
use crate::table::{Align, Table};

/// What a replica said of its streams, or why it said nothing.
type Answer = (String, Result<Value, String>);

/// The replicas' answers as one: `proxies` with `replica` and `version`, `replicas`, `unconnected` and `unmeshed`.
pub(crate) async fn ask(cluster: &Cluster) -> Result<Value> {
    let replicas = cluster.replicas().await?;
    let answers = ask_all(&replicas, "/v1/proxies").await;
    let answers = replicas.iter().zip(answers).map(|(replica, answer)| {
        let answer = answer.map_err(|error| format!("{error:#}"));
        (replica.pod.clone(), answer)
    });
    let answers: Vec<Answer> = answers.collect();
    let pods = cluster.list("/api/v1/pods").await?;
    let namespaces = cluster.list("/api/v1/namespaces").await?;
    let standings = Standing::of_all(&pods, &namespaces, &cluster.system);
    Ok(joined(answers, &standings))
}

fn joined(answers: Vec<Answer>, standings: &BTreeMap<String, (&Value, Standing)>) -> Value {
    let mut replicas = Vec::new();
    let mut streams: BTreeMap<String, Value> = BTreeMap::new();
    for (replica, answer) in answers {
        match answer {
            Ok(answer) => {
                for proxy in proxies(&answer) {
                    let mut proxy = proxy.clone();
                    proxy["replica"] = json!(replica);
                    let known = streams.get(&text(&proxy["pod"]));
                    // A stream that has moved may still be counted where it was: the younger one is alive.
                    if known.is_none_or(|known| since(known) < since(&proxy)) {
                        streams.insert(text(&proxy["pod"]), proxy);
                    }
                }
                replicas.push(json!({"pod": replica, "epoch": answer["epoch"]}));
            }
            Err(error) => replicas.push(json!({"pod": replica, "error": error})),
        }
    }
    let (mut unconnected, mut unmeshed) = (Vec::new(), Vec::new());
    for (name, (_, standing)) in standings {
        match standing {
            Standing::Meshed { version } => match streams.get_mut(name) {
                Some(proxy) => proxy["version"] = json!(version),
                None => unconnected.push(json!({"pod": name, "version": version})),
            },
            Standing::Unmeshed(why) => {
                unmeshed.push(json!({"pod": name, "reason": why.reason, "wouldBe": why.would_be}));
            }
            Standing::Outside => {}
        }
    }
    let proxies: Vec<Value> = streams.into_values().collect();
    json!({
        "replicas": replicas, "proxies": proxies, "unconnected": unconnected, "unmeshed": unmeshed,
    })
}

fn since(proxy: &Value) -> u64 {
    proxy["connectedSince"].as_u64().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The proxies in a table, then what is wrong.
pub(super) fn table(answer: &Value) -> String {
    let mut table = Table::new(&[
        ("POD", Align::Left),
        ("VERSION", Align::Left),
        ("REPLICA", Align::Left),
        ("CONNECTED", Align::Right),
        ("STATE", Align::Left),
    ]);
    for proxy in proxies(answer) {
        let since = proxy["connectedSeconds"].as_u64().unwrap_or_default();
        let version = proxy["version"].as_str().unwrap_or("-");
        table.row(vec![
            text(&proxy["pod"]),
            version.to_owned(),
            text(&proxy["replica"]),
            duration::rough(Duration::from_secs(since)),
            state(proxy),
        ]);
    }
    let mut row = |pod: &Value, version: &str, state: &str| {
        let cells = [&text(pod), version, "-", "-", state];
        table.row(cells.map(str::to_owned).to_vec());
    };
    for proxy in list(&answer["unconnected"]) {
        row(
            &proxy["pod"],
            &text(&proxy["version"]),
            "not connected: see its log",
        );
    }
    for pod in list(&answer["unmeshed"]) {
        row(&pod["pod"], "-", "NO PROXY, though it is in the mesh");
    }
    let mut out = table.render() + &refusals(answer);
    let mut section = |title: &str, of: &str, name: &str, reason: &str| {
        let lines = list(&answer[of]).filter(|one| !one[reason].is_null());
        let lines: String = lines
            .map(|one| format!("  {}: {}\n", text(&one[name]), text(&one[reason])))
            .collect();
        if !lines.is_empty() {
            out += &format!("\n{title}\n{lines}");
        }
    };
    section(
        "Without a proxy (`weft check` says what to do):",
        "unmeshed",
        "pod",
        "reason",
    );
    section(
        "Replicas that did not answer, so that their proxies are missing here:",
        "replicas",
        "pod",
        "error",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Unmeshed;

    fn stream(pod: &str, since: u64, up_to_date: bool) -> Value {
        json!({
            "pod": pod, "connectedSince": since, "connectedSeconds": 61, "upToDate": up_to_date, "refusals": [],
            "pending": [],
        })
    }

    #[test]
    fn replicas_are_one_answer_and_who_is_missing_is_said() {
        let meshed = || Standing::Meshed {
            version: "0.1.0".into(),
        };
        let unmeshed = Standing::Unmeshed(Unmeshed {
            reason: "it is old".into(),
            would_be: true,
        });
        let pod = Value::Null;
        let standings = [
            ("shop/a", meshed()),
            ("shop/b", meshed()),
            ("shop/c", meshed()),
            ("shop/d", unmeshed),
        ];
        let standings = standings.map(|(name, standing)| (name.to_owned(), (&pod, standing)));
        let standings = BTreeMap::from(standings);
        let mut refusing = stream("shop/b", 2, false);
        refusing["refusals"] =
            json!([{"resource": "Service shop/w", "field": "ports", "reason": "odd"}]);
        let answers = vec![
            (
                "cp-1".to_owned(),
                Ok(json!({"epoch": "1/4", "proxies": [stream("shop/a", 1, false)]})),
            ),
            (
                "cp-2".to_owned(),
                Ok(json!({"epoch": "2/9", "proxies": [stream("shop/a", 5, true), refusing]})),
            ),
            ("cp-3".to_owned(), Err("it is gone".to_owned())),
        ];
        let answer = joined(answers, &standings);
        assert_eq!(answer["proxies"][0]["replica"], "cp-2");
        assert_eq!(
            table(&answer),
            "POD      VERSION   REPLICA   CONNECTED   STATE\n\
             shop/a   0.1.0     cp-2           1m1s   up to date\n\
             shop/b   0.1.0     cp-2           1m1s   refuses 1\n\
             shop/c   0.1.0     -                 -   not connected: see its log\n\
             shop/d   -         -                 -   NO PROXY, though it is in the mesh\n\
             \n\
             Refused, so that what was in force before still is:\n\
             \x20 shop/b: Service shop/w: ports: odd\n\
             \n\
             Without a proxy (`weft check` says what to do):\n\
             \x20 shop/d: it is old\n\
             \n\
             Replicas that did not answer, so that their proxies are missing here:\n\
             \x20 cp-3: it is gone\n"
        );
    }
}
