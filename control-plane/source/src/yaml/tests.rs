use super::*;

fn line(document: &Document, path: &str) -> u32 {
    document.lines.find(&FieldPath::parse(path))
}

fn only(text: &str) -> Document {
    let mut documents = documents(text);
    assert_eq!(documents.len(), 1, "{documents:?}");
    documents.remove(0).unwrap()
}

#[test]
fn every_field_has_its_line() {
    let text = "\
# comment
kind: A
spec:
  rules:
  - name: one
    to:
      - paths: [a,
                b]
  -
    name: two
  labels: {x: 1, 'app.kubernetes.io/name': y z}
";
    let document = only(text);
    for (path, expected) in [
        ("", 2),
        ("kind", 2),
        ("spec", 3),
        ("spec.rules", 4),
        ("spec.rules[0]", 5),
        ("spec.rules[0].name", 5),
        ("spec.rules[0].to[0].paths[0]", 7),
        ("spec.rules[0].to[0].paths[1]", 8),
        ("spec.rules[1].name", 10),
        ("spec.labels[\"app.kubernetes.io/name\"]", 11),
        // What is missing has the line of what it is missing from.
        ("spec.rules[1].missing.below", 10),
        ("spec.rules[7]", 4),
        ("missing", 2),
    ] {
        assert_eq!(line(&document, path), expected, "{path}");
    }
}

#[test]
fn documents_are_cut_at_their_markers() {
    let text = "\
%YAML 1.2
---
# only a comment
---
a: 1
text: |
  ---
  not a marker
--- # the next
b: 2
...
---
---
null
--- {c: 3}
";
    let documents: Vec<_> = documents(text).into_iter().map(Result::unwrap).collect();
    let values: Vec<_> = documents
        .iter()
        .map(|document| document.value.to_string())
        .collect();
    assert_eq!(
        values,
        [
            r#"{"a":1,"text":"---\nnot a marker\n"}"#,
            r#"{"b":2}"#,
            r#"{"c":3}"#
        ]
    );
    assert_eq!(line(&documents[0], "text"), 6);
    assert_eq!(line(&documents[1], "b"), 10);
    assert_eq!(line(&documents[2], "c"), 15);
}

#[test]
fn an_error_in_one_document_leaves_the_others() {
    let read = documents("a: 1\n---\nb: [1\nc: 2\n---\nd: 4\n");
    assert_eq!(read[0].as_ref().unwrap().value["a"], 1);
    assert!(
        (3..=5).contains(&read[1].as_ref().unwrap_err().line),
        "{read:?}"
    );
    assert_eq!(read[2].as_ref().unwrap().value["d"], 4);
}

#[test]
fn what_is_not_yaml_is_an_error_at_its_line() {
    for (text, expected) in [
        ("a:\n\tb: 1\n", 2..=2),
        ("a: 1\n b: 2\n", 2..=2),
        ("a: 1\na: 2\n", 2..=2),
        ("a: \"open\nb: 1\n", 1..=3),
        ("a: *nowhere\n", 1..=1),
        ("a: {b: 1\n", 1..=2),
    ] {
        let error = documents(text).remove(0).unwrap_err();
        assert!(expected.contains(&error.line), "{text:?}: {error:?}");
        assert!(!error.message.contains('\n'), "{error:?}");
    }
}

#[test]
fn json_is_read_with_tabs_and_escapes() {
    let document = only(
        "{\n\t\"kind\": \"A\",\n\t\"list\": [\n\t\t1,\n\t\ttrue,\n\t\t\"\\u00e9\\n\"\n\t]\n}\n",
    );
    assert_eq!(
        document.value.to_string(),
        r#"{"kind":"A","list":[1,true,"é\n"]}"#
    );
    assert_eq!(line(&document, "list[2]"), 6);
}

#[test]
fn aliases_and_merges_are_expanded_within_bounds() {
    let document = only("base: &b {x: 1}\nuse: *b\nmerged:\n  <<: *b\n  y: 2\n");
    assert_eq!(document.value["use"]["x"], 1);
    assert_eq!(document.value["merged"]["x"], 1);
    assert_eq!(line(&document, "use"), 2);

    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    assert!(documents(&bomb).remove(0).is_err());

    let deep = format!("a: {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    assert!(documents(&deep).remove(0).is_err());
}

#[test]
fn scalars_are_what_kubectl_takes_them_for() {
    let document =
        only("[0644, '0644', yes, 'yes', 1.5, 1.14.2, ~, 10.0.0.1, 2024-01-01, 1e3, on]\n");
    assert_eq!(
        document.value.to_string(),
        r#"[420,"0644",true,"yes",1.5,"1.14.2",null,"10.0.0.1","2024-01-01",1000.0,true]"#
    );
    let document = only("a: 1\r\nb:\r\n  - |\r\n    text\r\n");
    assert_eq!(document.value.to_string(), r#"{"a":1,"b":["text\n"]}"#);
}
