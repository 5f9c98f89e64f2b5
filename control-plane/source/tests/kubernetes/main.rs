//! What a real API server does seldom: pages, forgotten versions, broken answers, silence.
#![allow(clippy::unwrap_used)]

mod api;

use std::time::Duration;

use api::{Answer, Api, DEFINITIONS, PODS, event, list, next, pod};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use weft_model::{Change, Kind, ObjectKey};
use weft_source::kubernetes::Revision;

const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/httproutes";

/// The names of what is new and, with a minus, of what is gone.
fn names(changes: &[Change]) -> Vec<String> {
    let mut names: Vec<String> = changes
        .iter()
        .map(|change| match change {
            Change::Upsert(object) => object.key.name.to_string(),
            Change::Delete(key) => format!("-{}", key.name),
        })
        .collect();
    names.sort();
    names
}

fn gone() -> Value {
    event(
        "ERROR",
        json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}),
    )
}

#[tokio::test]
async fn a_list_comes_in_pages_and_its_watch_goes_on_from_it() {
    let mut api = Api::start().await;
    api.lists(
        PODS,
        [
            list(7, "more", &[pod("a", 1), pod("b", 2)]),
            list(7, "", &[pod("c", 3)]),
        ],
    );
    let events = vec![
        event("MODIFIED", pod("a", 1)),
        event("DELETED", pod("b", 9)),
    ];
    api.watches(PODS, [Answer::Open(events)]);
    let mut source = api.source();
    let batch = next(&mut source).await;
    assert_eq!(batch.number, 1);
    assert_eq!(names(&batch.changes), ["a", "b", "c"]);
    assert!(api.asked(PODS, "continue=more").await.contains("limit=500"));
    let watch = api.asked(PODS, "watch=true").await;
    assert!(watch.contains("resourceVersion=7"), "{watch}");
    assert!(watch.contains("timeoutSeconds=290"), "{watch}");
    assert!(watch.contains("allowWatchBookmarks=true"), "{watch}");
    assert_eq!(names(&next(&mut source).await.changes), ["-b"]);
    assert!(source.health().is_in_sync());
}

#[tokio::test]
async fn a_forgotten_version_is_listed_anew_and_only_what_differs_is_news() {
    let api = Api::start().await;
    let before = [pod("same", 1), pod("gone", 2)];
    api.lists(
        PODS,
        [
            list(2, "", &before),
            list(9, "", &[pod("same", 1), pod("new", 8)]),
            list(12, "", &[pod("same", 1), pod("newer", 11)]),
        ],
    );
    // Said in the watch, and instead of one.
    api.watches(PODS, [Answer::Open(vec![gone()]), Answer::Refused(410)]);
    let mut source = api.source();
    assert_eq!(names(&next(&mut source).await.changes), ["gone", "same"]);
    let mut seen = Vec::new();
    while !seen.contains(&"-new".to_owned()) {
        seen.extend(names(&next(&mut source).await.changes));
    }
    assert!(!seen.iter().any(|name| name.contains("same")), "{seen:?}");
    assert!(seen.contains(&"-gone".to_owned()) && seen.contains(&"newer".to_owned()));
}

#[tokio::test]
async fn what_is_broken_is_read_again() {
    let mut api = Api::start().await;
    let page = r#"{"metadata": {"resourceVersion": "5"}, "items": [{"metadata": {"na"#;
    api.lists(
        PODS,
        [
            Answer::Refused(500),
            Answer::Broken(page.to_owned()),
            list(5, "", &[pod("a", 5)]),
        ],
    );
    let whole = format!("{}\n", event("ADDED", pod("b", 6)));
    let half = event("ADDED", pod("c", 7)).to_string();
    api.watches(
        PODS,
        [
            Answer::Broken(whole + &half[..half.len() / 2]),
            Answer::Open(vec![event("ADDED", pod("c", 7))]),
        ],
    );
    let mut source = api.source();
    assert_eq!(names(&next(&mut source).await.changes), ["a"]);
    assert_eq!(names(&next(&mut source).await.changes), ["b"]);
    assert_eq!(names(&next(&mut source).await.changes), ["c"]);
    api.asked(PODS, "resourceVersion=5").await;
    api.asked(PODS, "resourceVersion=6").await;
}

#[tokio::test]
async fn a_watch_that_ends_is_resumed_where_its_bookmark_was() {
    let mut api = Api::start().await;
    let bookmark = event("BOOKMARK", json!({"metadata": {"resourceVersion": "77"}}));
    api.watches(PODS, [Answer::Ended(vec![bookmark])]);
    let mut source = api.source();
    assert_eq!(next(&mut source).await.changes, []);
    api.asked(PODS, "resourceVersion=77").await;
}

#[tokio::test]
async fn a_watch_that_falls_silent_is_begun_anew() {
    let mut api = Api::start().await;
    api.watches(PODS, [Answer::Open(vec![event("ADDED", pod("a", 2))])]);
    let mut source = api.source();
    next(&mut source).await;
    assert_eq!(names(&next(&mut source).await.changes), ["a"]);
    api.asked(PODS, "watch=true").await;
    tokio::time::pause();
    // Longer than any server is silent.
    tokio::time::advance(Duration::from_secs(80)).await;
    tokio::time::resume();
    api.asked(PODS, "watch=true").await;
}

fn definition() -> Value {
    json!({
        "metadata": {"name": "httproutes.gateway.networking.k8s.io", "resourceVersion": "4"},
        "spec": {"versions": [{"name": "v1", "served": true}]},
        "status": {"conditions": [{"type": "Established", "status": "True"}]}
    })
}

fn route(generation: u64) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "r", "namespace": "shop", "resourceVersion": "6", "generation": generation},
        "spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}
    })
}

#[tokio::test]
async fn nothing_is_complete_without_a_kind_that_is_there() {
    let api = Api::start().await;
    api.lists(DEFINITIONS, [list(4, "", &[definition()])]);
    api.lists(ROUTES, [Answer::Refused(503), list(6, "", &[route(3)])]);
    let (feed, fed) = mpsc::unbounded_channel();
    api.watches(ROUTES, [Answer::Fed(fed)]);
    let mut source = api.source();
    assert_eq!(names(&next(&mut source).await.changes), ["r"]);

    let observer = source.observer();
    let revision = |generation| Revision {
        generation: Some(generation),
        ..Revision::default()
    };
    let key = ObjectKey::new(Kind::HttpRoute, "shop", "r");
    assert_eq!(observer.reached(key.clone(), revision(3)).await, Some(1));
    let later = tokio::spawn(async move { observer.reached(key, revision(4)).await });
    feed.send(event("MODIFIED", route(4))).unwrap();
    let batch = next(&mut source).await;
    assert_eq!(
        (batch.number, names(&batch.changes)),
        (2, vec!["r".to_owned()])
    );
    assert_eq!(later.await.unwrap(), Some(2));
}

#[tokio::test]
async fn a_kind_comes_and_goes_with_its_definition() {
    let api = Api::start().await;
    let (feed, fed) = mpsc::unbounded_channel();
    api.watches(DEFINITIONS, [Answer::Fed(fed)]);
    api.lists(ROUTES, [list(6, "", &[route(1)])]);
    let mut source = api.source();
    assert_eq!(next(&mut source).await.changes, []);
    feed.send(event("ADDED", definition())).unwrap();
    assert_eq!(names(&next(&mut source).await.changes), ["r"]);
    let watched = || source.health().watched();
    assert!(
        watched()
            .iter()
            .any(|watched| watched.resource.starts_with("httproutes."))
    );
    feed.send(event("DELETED", definition())).unwrap();
    assert_eq!(names(&next(&mut source).await.changes), ["-r"]);
    assert!(source.health().is_in_sync());
}
