use serde_json::{Value, json};
use weft_api::Kind as ApiKind;

use super::*;

const PODS: Resource = Resource::Object(ApiKind::Pod);
const ROUTES: Resource = Resource::Object(ApiKind::HttpRoute);
const SERVICES: Resource = Resource::Object(ApiKind::Service);

fn decoded(resource: Resource, value: Value) -> Decoded {
    resource.read(&value).unwrap()
}

fn service(version: u64, port: u16, status: &str) -> Decoded {
    let value = json!({
        "metadata": {"name": "web", "namespace": "shop", "resourceVersion": version.to_string()},
        "spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": port}]},
        "status": {"loadBalancer": {"ingress": [{"hostname": status}]}}
    });
    decoded(SERVICES, value)
}

fn route(generation: u64, version: u64, weight: Value) -> Decoded {
    let value = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {
            "name": "web", "namespace": "shop", "generation": generation,
            "resourceVersion": version.to_string(), "creationTimestamp": "2026-01-02T03:04:05Z",
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]
        },
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "web"}],
            "rules": [{"backendRefs": [{"name": "web", "port": 80, "weight": weight}]}]
        },
        "status": {"parents": []}
    });
    decoded(ROUTES, value)
}

fn pod(name: &str, node: &str) -> Decoded {
    let value = json!({
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": "1"},
        "spec": {"nodeName": node, "containers": [{"name": "a"}]},
        "status": {"phase": "Running", "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}]}
    });
    decoded(PODS, value)
}

fn node(name: &str, zone: &str) -> Decoded {
    let labels = json!({"topology.kubernetes.io/zone": zone, "more": "labels"});
    let value = json!({"metadata": {"name": name, "labels": labels, "resourceVersion": "1"}});
    decoded(Resource::Node, value)
}

/// The changes since the last call.
fn changes(collection: &mut Collection) -> Vec<Change> {
    collection
        .batch()
        .map_or_else(Vec::new, |batch| batch.changes)
}

fn zones(collection: &mut Collection) -> Vec<Option<String>> {
    let changes = changes(collection).into_iter();
    changes
        .map(|change| match change {
            Change::Upsert(object) => match &object.spec {
                Spec::Pod(pod) => pod.zone.as_deref().map(str::to_owned),
                other => panic!("{other:?}"),
            },
            Change::Delete(key) => panic!("{key} is gone"),
        })
        .collect()
}

#[test]
fn a_list_says_only_what_is_new() {
    let mut collection = Collection::default();
    collection.begin(SERVICES);
    collection.apply(SERVICES, service(3, 80, "a"));
    collection.listed(SERVICES);
    assert_eq!(changes(&mut collection).len(), 1);

    // The same again, a new status only, and a new version of it.
    collection.begin(SERVICES);
    collection.apply(SERVICES, service(4, 80, "b"));
    collection.listed(SERVICES);
    assert!(collection.batch().is_none());
    let key = ObjectKey::new(Kind::Service, "shop", "web");
    let at = |resource_version| Revision {
        resource_version: Some(resource_version),
        ..Revision::default()
    };
    assert!(collection.has_reached(&key, &at(4)));
    assert!(!collection.has_reached(&key, &at(5)));

    collection.apply(SERVICES, service(5, 81, "b"));
    let changed = changes(&mut collection);
    let [Change::Upsert(object)] = changed.as_slice() else {
        panic!("{changed:?}");
    };
    assert_eq!(object.meta.generation, 2, "counted: a Service has none");

    collection.begin(SERVICES);
    collection.listed(SERVICES);
    assert_eq!(changes(&mut collection), [Change::Delete(key)]);
}

#[test]
fn a_new_status_is_shown_and_changes_nothing() {
    let mut collection = Collection::default();
    collection.apply(ROUTES, route(1, 10, json!(1)));
    assert_eq!(changes(&mut collection).len(), 1);
    let key = ObjectKey::new(Kind::HttpRoute, "shop", "web");
    let shown = collection.shown();
    let mut news = shown.changed();
    assert_eq!(shown.all()[&key].references[0]["name"], "web");

    let mut written = route(1, 11, json!(1));
    let Content::Object(read) = &mut written.content else {
        panic!("{written:?}");
    };
    read.shown.as_mut().unwrap().status = json!({"parents": [1]});
    collection.apply(ROUTES, written);
    assert!(collection.batch().is_none());
    assert!(news.has_changed().unwrap());
    let status = Arc::clone(&shown.all()[&key]);
    assert_eq!(
        (status.version, status.generation, status.since),
        (11, 1, 1)
    );
    assert_eq!(status.status, json!({"parents": [1]}));

    // Of a new generation it is known by which batch it comes.
    news.borrow_and_update();
    collection.apply(ROUTES, route(2, 12, json!(2)));
    assert_eq!(collection.batch().unwrap().number, 2);
    assert_eq!(shown.all()[&key].since, 2);
    collection.begin(ROUTES);
    collection.listed(ROUTES);
    assert_eq!(collection.batch().unwrap().number, 3);
    assert!(shown.all().is_empty() && news.has_changed().unwrap());
}

#[test]
fn the_last_good_version_stays_and_the_finding_says_why() {
    let mut collection = Collection::default();
    collection.apply(ROUTES, route(1, 10, json!(1)));
    let first = changes(&mut collection);
    let [Change::Upsert(good)] = first.as_slice() else {
        panic!("{first:?}");
    };
    assert_eq!(good.meta.generation, 1);
    assert_eq!(good.meta.created.seconds, 1_767_323_045);
    assert_eq!(good.problems, []);

    collection.apply(ROUTES, route(2, 11, json!("heavy")));
    let batch = collection.batch().unwrap();
    assert_eq!(batch.changes, []);
    let [finding] = batch.diagnostics.as_slice() else {
        panic!("{:?}", batch.diagnostics);
    };
    assert_eq!(
        finding.subject.as_ref().unwrap().to_string(),
        "HTTPRoute shop/web"
    );
    assert_eq!(
        finding.field.as_str(),
        "spec.rules[0].backendRefs[0].weight"
    );
    let key = ObjectKey::new(Kind::HttpRoute, "shop", "web");
    let second = Revision {
        generation: Some(2),
        ..Revision::default()
    };
    assert!(collection.has_reached(&key, &second));

    collection.apply(ROUTES, route(3, 12, json!(2)));
    let batch = collection.batch().unwrap();
    assert_eq!((batch.changes.len(), batch.diagnostics.len()), (1, 0));
}

#[test]
fn a_bad_object_that_was_never_good_is_there_with_its_problems() {
    let mut collection = Collection::default();
    collection.apply(ROUTES, route(1, 10, json!("heavy")));
    let batch = collection.batch().unwrap();
    let [Change::Upsert(object)] = batch.changes.as_slice() else {
        panic!("{:?}", batch.changes);
    };
    assert_eq!(object.problems.len(), 1);
    assert_eq!(batch.diagnostics.len(), 1);
    let same = route(1, 10, json!("heavy"));
    collection.delete(ROUTES, &same);
    let batch = collection.batch().unwrap();
    assert_eq!((batch.changes.len(), batch.diagnostics.len()), (1, 0));
}

#[test]
fn pods_are_in_the_zones_of_their_nodes() {
    let mut collection = Collection::default();
    collection.apply(Resource::Node, node("n1", "a"));
    collection.apply(PODS, pod("p1", "n1"));
    collection.apply(PODS, pod("p2", "n2"));
    assert_eq!(zones(&mut collection), [Some("a".to_owned()), None]);
    collection.apply(Resource::Node, node("n2", "b"));
    assert_eq!(zones(&mut collection), [Some("b".to_owned())]);
    collection.apply(Resource::Node, node("n2", "b"));
    collection.apply(PODS, pod("p2", "n2"));
    assert!(collection.batch().is_none());
    collection.begin(Resource::Node);
    collection.apply(Resource::Node, node("n1", "c"));
    collection.listed(Resource::Node);
    assert_eq!(zones(&mut collection), [Some("c".to_owned()), None]);
}

#[test]
fn a_resource_is_read_in_its_own_version_once_it_is_established() {
    let definition = |version: &str, established: &str| {
        let value = json!({
            "metadata": {"name": "httproutes.gateway.networking.k8s.io"},
            "spec": {"versions": [
                {"name": "v1alpha2", "served": false, "schema": {}},
                {"name": version, "served": true, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ]},
            "status": {"conditions": [{"type": "Established", "status": established}]}
        });
        decoded(Resource::CustomResourceDefinition, value)
    };
    let served = |collection: &Collection| collection.served().collect::<Vec<_>>();
    let mut collection = Collection::default();
    collection.apply(
        Resource::CustomResourceDefinition,
        definition("v1", "False"),
    );
    assert_eq!(served(&collection), []);
    collection.apply(Resource::CustomResourceDefinition, definition("v1", "True"));
    assert_eq!(served(&collection), [ROUTES]);
    assert_eq!(collection.batch().unwrap().diagnostics, []);
    collection.apply(
        Resource::CustomResourceDefinition,
        definition("v1beta1", "True"),
    );
    assert_eq!(served(&collection), []);
    let findings = collection.batch().unwrap().diagnostics;
    let subject = findings[0].subject.as_ref().unwrap().to_string();
    assert_eq!(
        subject,
        "CustomResourceDefinition httproutes.gateway.networking.k8s.io"
    );
}

#[test]
fn ended_pods_have_no_address_and_leaving_ones_say_so() {
    let mut collection = Collection::default();
    let mut pods = Vec::new();
    for (name, phase) in [("job", "Succeeded"), ("leaving", "Running")] {
        pods.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "shop", "resourceVersion": "1",
                "deletionTimestamp": "2026-01-01T00:00:00Z"
            },
            "spec": {"containers": [{"name": "a"}]},
            "status": {"phase": phase, "podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}]}
        }));
    }
    for value in pods {
        collection.apply(PODS, decoded(PODS, value));
    }
    for change in changes(&mut collection) {
        let Change::Upsert(object) = change else {
            panic!("{change:?}");
        };
        let Spec::Pod(pod) = &object.spec else {
            panic!("{object:?}");
        };
        assert!(pod.terminating);
        let addresses = if &*object.key.name == "job" { 0 } else { 2 };
        assert_eq!(pod.ips.len(), addresses);
    }
}
