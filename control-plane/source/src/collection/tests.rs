//! What is in force as files change, file by file, without a disk.

use super::*;
use crate::read::read;
use weft_model::Kind;

const ROUTE: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules:
  - backendRefs: [{name: web, port: 80, weight: WEIGHT}]
  - backendRefs: [{name: other, port: 80}]
";

/// A folder that a test writes to.
#[derive(Default)]
struct Folder(Collection);

impl Folder {
    fn write(&mut self, file: &str, text: &str) -> Batch {
        let name: Arc<str> = file.into();
        let update = match text.trim().is_empty() {
            true => Update::Empty(name),
            false => Update::Read(read(&name, text)),
        };
        self.update(file, update)
    }

    fn remove(&mut self, file: &str) -> Batch {
        self.update(file, Update::Gone)
    }

    fn update(&mut self, file: &str, update: Update) -> Batch {
        let id = FileId {
            root: 0,
            path: file.into(),
        };
        self.0
            .update(vec![(id, update)], Vec::new())
            .unwrap_or_default()
    }

    fn weight(&self) -> Option<i64> {
        let key = weft_model::ObjectKey::new(Kind::HttpRoute, "default", "web");
        match &self.0.world().object(&key)?.spec {
            Spec::HttpRoute(route) => Some(route.rules[0].backends.first()?.weight),
            _ => None,
        }
    }

    fn names(&self) -> Vec<String> {
        self.0
            .world()
            .objects()
            .map(|object| object.key.to_string())
            .collect()
    }

    fn object(&self, kind: Kind, name: &str) -> Arc<Object> {
        let key = weft_model::ObjectKey::new(kind, "default", name);
        Arc::clone(self.0.world().object(&key).unwrap())
    }
}

fn route(weight: &str) -> String {
    ROUTE.replace("WEIGHT", weight)
}

fn service(name: &str, port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n"
    )
}

fn messages(batch: &Batch) -> Vec<String> {
    batch.diagnostics.iter().map(ToString::to_string).collect()
}

#[test]
fn a_faulty_object_keeps_its_last_good_version_and_holds_no_other_back() {
    let mut folder = Folder::default();
    folder.write("a.yaml", &(route("1") + &service("web", 80)));
    let batch = folder.write("a.yaml", &(route("-1") + &service("web", 81)));
    assert_eq!(
        messages(&batch),
        [
            "a.yaml:8: HTTPRoute default/web: spec.rules[0].backendRefs[0].weight: -1 is not between 0 and 1000000"
        ]
    );
    assert_eq!(folder.weight(), Some(1));
    let Spec::Service(service) = &folder.object(Kind::Service, "web").spec else {
        panic!("not a Service")
    };
    assert_eq!(service.ports[0].port, 81);

    let batch = folder.write("a.yaml", &route("2"));
    assert_eq!(messages(&batch), Vec::<String>::new());
    assert_eq!(folder.weight(), Some(2));
    assert_eq!(folder.names(), ["HTTPRoute default/web"]);
}

#[test]
fn a_half_written_file_changes_nothing_until_it_is_whole() {
    let mut folder = Folder::default();
    let whole = service("web", 80) + &route("5") + &service("other", 80);
    folder.write("a.yaml", &(route("1") + &service("web", 80)));
    for cut in 1..whole.len() {
        let cut_short = &whole[..cut];
        let read = read(&"a.yaml".into(), cut_short);
        folder.write("a.yaml", cut_short);
        if read.is_broken {
            assert_eq!(
                folder.names(),
                ["Service default/web", "HTTPRoute default/web"],
                "{cut_short}"
            );
            assert_eq!(folder.weight(), Some(1), "{cut_short}");
        }
        folder = Folder::default();
        folder.write("a.yaml", &(route("1") + &service("web", 80)));
    }
    let batch = folder.write("a.yaml", "");
    assert_eq!(batch.diagnostics[0].severity, Severity::Warning);
    assert_eq!(folder.names().len(), 2);
    folder.write("a.yaml", &whole);
    assert_eq!(folder.weight(), Some(5));
    folder.write("a.yaml", "# nothing any more\n");
    assert_eq!(folder.names(), Vec::<String>::new());
}

#[test]
fn objects_survive_while_one_of_their_file_cannot_be_told() {
    let mut folder = Folder::default();
    folder.write("a.yaml", &(route("1") + &service("web", 80)));
    let slip = route("3").replace("HTTPRoute", "HttpRoute") + &service("web", 81);
    let batch = folder.write("a.yaml", &slip);
    assert_eq!(
        messages(&batch),
        [
            "a.yaml:3: HttpRoute web: gateway.networking.k8s.io/v1 has no kind HttpRoute; did you mean HTTPRoute?"
        ]
    );
    assert_eq!(folder.weight(), Some(1));
}

#[test]
fn a_file_that_was_never_whole_gives_what_can_be_read() {
    let mut folder = Folder::default();
    let batch = folder.write(
        "a.yaml",
        &(service("web", 80) + "---\nkind: [\n" + &service("b", 80)),
    );
    assert_eq!(folder.names(), ["Service default/b", "Service default/web"]);
    assert_eq!(batch.diagnostics.len(), 1);
}

#[test]
fn of_two_with_one_name_the_first_stays_and_both_places_are_named() {
    let mut folder = Folder::default();
    folder.write("b.yaml", &service("web", 80));
    let batch = folder.write("a.yaml", &service("web", 81));
    assert_eq!(
        messages(&batch),
        [
            "a.yaml:2: Service default/web: the same object stands at b.yaml:2, which is in force; remove one of the two"
        ]
    );
    assert!(batch.changes.is_empty());
    let batch = folder.remove("b.yaml");
    assert!(batch.diagnostics.is_empty());
    assert_eq!(batch.changes.len(), 1);
    let batch = folder.write("a.yaml", &(service("web", 81) + &service("web", 82)));
    assert_eq!(batch.diagnostics[0].reason, Reason::DuplicateObject);
}

#[test]
fn addresses_reach_services_in_whatever_order_they_arrive() {
    let given = "apiVersion: local.weft.dev/v1\nkind: ClusterIPs\nmetadata: {name: x}\nspec: {services: {default/web: [10.96.0.5], default/own: [10.96.0.6]}}\n";
    let own = service("own", 80).replace("{ports", "{clusterIP: 10.0.0.1, ports");
    let files = [
        ("given.yaml", given.to_owned()),
        ("web.yaml", service("web", 80) + &own),
    ];
    for order in [[0, 1], [1, 0]] {
        let mut folder = Folder::default();
        for index in order {
            folder.write(files[index].0, &files[index].1);
        }
        let addresses = |name: &str| match &folder.object(Kind::Service, name).spec {
            Spec::Service(service) => service.cluster_ips.clone(),
            _ => Vec::new(),
        };
        assert_eq!(addresses("web"), ["10.96.0.5".parse::<IpAddr>().unwrap()]);
        assert_eq!(addresses("own"), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    }
    let mut folder = Folder::default();
    folder.write("web.yaml", &service("web", 80));
    folder.write("given.yaml", given);
    let batch = folder.remove("given.yaml");
    assert_eq!(batch.changes.len(), 1);
}

#[test]
fn an_unreadable_rule_of_a_route_leaves_the_others_at_their_positions() {
    let mut folder = Folder::default();
    let text = ROUTE.replace("weight: WEIGHT", "weight: 1, colour: red");
    let batch = folder.write("a.yaml", &text);
    assert_eq!(
        messages(&batch),
        [
            "a.yaml:8: HTTPRoute default/web: spec.rules[0].backendRefs[0].colour: HTTPRoute has no such field"
        ]
    );
    let object = folder.object(Kind::HttpRoute, "web");
    assert_eq!(
        object.problems[0].field.as_str(),
        "spec.rules[0].backendRefs[0].colour"
    );
    let Spec::HttpRoute(route) = &object.spec else {
        panic!("not a route")
    };
    assert_eq!(&*route.rules[1].backends[0].name, "other");

    // The same with a type error, which would take the whole object with it.
    let batch = folder.write(
        "b.yaml",
        &route_named("typed", "weight: 1, port: 99999999999"),
    );
    assert_eq!(batch.diagnostics.len(), 2, "{:?}", messages(&batch));
    let object = folder.object(Kind::HttpRoute, "typed");
    let Spec::HttpRoute(route) = &object.spec else {
        panic!("not a route")
    };
    assert_eq!(route.rules.len(), 2);
    assert_eq!(&*route.rules[1].backends[0].name, "other");
}

fn route_named(name: &str, backend: &str) -> String {
    let text = ROUTE.replace(
        "metadata: {name: web}",
        &format!("metadata: {{name: {name}}}"),
    );
    text.replace("port: 80, weight: WEIGHT", backend)
}

#[test]
fn security_policies_that_were_never_readable_are_there_with_their_problems() {
    for (kind, name, spec, at_fault) in [
        (
            Kind::AuthorizationPolicy,
            "AuthorizationPolicy",
            "{rules: [{from: [{ipBlocks: [10.0.0.0/40]}]}]}",
            "spec.rules[0].from[0].ipBlocks[0]",
        ),
        (
            Kind::AuthorizationPolicy,
            "AuthorizationPolicy",
            "{action: AUDIT}",
            "spec.action",
        ),
        (
            Kind::AuthorizationPolicy,
            "AuthorizationPolicy",
            "{dryRun: true}",
            "spec.dryRun",
        ),
        (
            Kind::AuthorizationPolicy,
            "AuthorizationPolicy",
            "{selector: {matchLabels: web}}",
            "spec.selector.matchLabels",
        ),
        (
            Kind::AuthorizationPolicy,
            "AuthorizationPolicy",
            "text",
            "spec",
        ),
        (
            Kind::PeerAuthentication,
            "PeerAuthentication",
            "{mtls: {mode: PERMISSIV}}",
            "spec.mtls.mode",
        ),
        (Kind::PeerAuthentication, "PeerAuthentication", "[]", "spec"),
    ] {
        let mut folder = Folder::default();
        let text = format!(
            "apiVersion: mesh.weft.dev/v1alpha1\nkind: {name}\nmetadata: {{name: p}}\nspec: {spec}\n"
        );
        let batch = folder.write("a.yaml", &text);
        let object = folder.object(kind, "p");
        let mut problems = object.problems.iter();
        let is_named = problems.any(|problem| problem.field.as_str() == at_fault);
        assert!(is_named, "{spec}: {:?}", messages(&batch));
        assert!(batch.objects.is_empty());
    }
}

#[test]
fn generations_count_contents_and_not_lines() {
    let mut folder = Folder::default();
    let generation = |folder: &Folder| folder.object(Kind::HttpRoute, "web").meta.generation;
    folder.write("a.yaml", &route("1"));
    assert_eq!(generation(&folder), 1);
    let batch = folder.write("a.yaml", &format!("# one line more\n{}", route("1")));
    assert_eq!((batch.changes.len(), generation(&folder)), (1, 1));
    folder.write("a.yaml", &route("2"));
    assert_eq!(generation(&folder), 2);
    folder.remove("a.yaml");
    folder.write("a.yaml", &route("2"));
    assert_eq!(generation(&folder), 3);
}

#[test]
fn later_findings_are_located() {
    let mut folder = Folder::default();
    let batch = folder.write("a.yaml", &route("1"));
    let finding = weft_model::Diagnostic {
        subject: (&weft_model::ObjectKey::new(Kind::HttpRoute, "default", "web")).into(),
        field: "spec.rules[1].backendRefs[0].name".into(),
        severity: Severity::Error,
        reason: Reason::BackendNotFound,
        message: "there is no Service default/other".to_owned(),
    };
    assert_eq!(
        batch.locator.locate(&finding).to_string(),
        "a.yaml:9: HTTPRoute default/web: spec.rules[1].backendRefs[0].name: there is no Service default/other"
    );
}
