use std::sync::Arc;

use crate::*;

fn namespace(name: &str, generation: u64) -> Arc<Object> {
    let meta = Meta {
        origin: Origin::File {
            path: "a.yaml".into(),
            line: 1,
        },
        created: Created::default(),
        generation,
    };
    Arc::new(Object::new(
        "",
        name,
        meta,
        Spec::Namespace(Namespace::default()),
    ))
}

#[test]
fn a_field_path_lies_within_its_own_parents_only() {
    let rule = FieldPath::new("spec.rules").index(1);
    assert_eq!(rule.field("name").as_str(), "spec.rules[1].name");
    assert!(rule.field("name").is_within(&rule));
    assert!(rule.is_within(&rule));
    assert!(rule.is_within(&FieldPath::default()));
    assert!(!FieldPath::from("spec.rules[10]").is_within(&rule));
    assert!(!FieldPath::from("spec").is_within(&rule));
}

#[test]
fn applying_the_changes_between_two_worlds_leads_from_one_to_the_other() {
    let mut before: World = [namespace("a", 1), namespace("b", 1)].into_iter().collect();
    let after: World = [namespace("b", 2), namespace("c", 1)].into_iter().collect();
    let changes = before.changes_to(&after);
    assert_eq!(changes.len(), 3);
    for change in changes {
        before.apply(change);
    }
    assert_eq!(before, after);
    assert_eq!(before.of_kind(Kind::Namespace).count(), 2);
    assert_eq!(before.of_kind(Kind::Pod).count(), 0);
}

#[test]
fn a_diagnostic_reads_as_one_line() {
    let diagnostic = Diagnostic {
        subject: Subject::from(&ObjectKey::new(Kind::HttpRoute, "shop", "web")),
        field: "spec.rules[0].backendRefs[0].name".into(),
        severity: Severity::Error,
        reason: Reason::BackendNotFound,
        message: "there is no Service shop/wbe".into(),
    };
    assert_eq!(
        diagnostic.to_string(),
        "error: HTTPRoute shop/web: spec.rules[0].backendRefs[0].name: BackendNotFound: there is no Service shop/wbe"
    );
}
