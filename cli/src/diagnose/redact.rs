//! What must not leave a cluster: the data of Secrets, tokens, private keys, and what applications are told in their
//! environment. Objects lose it by field, every text by its looks.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

/// What `kubectl apply` keeps holds all the rest once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Settings of our own programs, which explain what they do and hold no secret.
const OURS: &str = "WEFT_";

/// Each with what comes in its place.
static LOOKS: LazyLock<[(Regex, &str); 3]> = LazyLock::new(|| {
    let regex = |text: &str| Regex::new(text).expect("a constant that a test compiles");
    [
        (
            regex(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
            "(token removed)",
        ),
        // With line breaks, or with `\n` as in JSON.
        (
            regex(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----"),
            "(private key removed)",
        ),
        (
            regex(r"(?i)\b(bearer|basic) [A-Za-z0-9._~+/=-]{8,}"),
            "$1 (removed)",
        ),
    ]
});

/// An object without its secrets.
pub(super) fn object(mut object: Value, is_secret: bool) -> Value {
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.remove(LAST_APPLIED);
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    if is_secret {
        for field in ["data", "stringData"] {
            for value in object[field]
                .as_object_mut()
                .into_iter()
                .flat_map(|map| map.values_mut())
            {
                let length = value.as_str().map_or(0, str::len);
                *value = json!(format!("(removed, {length} characters)"));
            }
        }
    }
    environment(&mut object);
    object
}

/// Takes the values of all environments below out, wherever there is a pod.
fn environment(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, below) in map.iter_mut() {
                let settings = if key == "env" {
                    below.as_array_mut()
                } else {
                    None
                };
                for setting in settings.into_iter().flatten() {
                    let is_ours = setting["name"]
                        .as_str()
                        .is_some_and(|name| name.starts_with(OURS));
                    if !is_ours && setting["value"].is_string() {
                        setting["value"] = json!("(removed)");
                    }
                }
                environment(below);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(environment),
        _ => {}
    }
}

/// A text without what looks like a secret.
pub(super) fn text(text: &str) -> String {
    LOOKS
        .iter()
        .fold(text.to_owned(), |text, (looks, instead)| {
            looks.replace_all(&text, *instead).into_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_lose_secrets_by_field() {
        let secret = json!({
            "metadata": {"name": "a", "annotations": {(LAST_APPLIED): "{\"data\":{\"k\":\"aHVzaA==\"}}", "kept": "yes"}},
            "data": {"k": "aHVzaA=="}, "stringData": {"l": "hush"},
        });
        let clean = object(secret, true);
        assert!(
            !clean.to_string().contains("hush") && !clean.to_string().contains("aHVzaA"),
            "{clean}"
        );
        assert_eq!(
            (
                &clean["data"]["k"],
                &clean["metadata"]["annotations"]["kept"]
            ),
            (&json!("(removed, 8 characters)"), &json!("yes"))
        );
        let env = json!([{"name": "PASSWORD", "value": "hush"}, {"name": "WEFT_LOG", "value": "info"}, {"name": "IP", "valueFrom": {}}]);
        let pod = json!({"spec": {"template": {"spec": {"containers": [{"env": env}]}}}});
        let clean = object(pod, false);
        let env = &clean["spec"]["template"]["spec"]["containers"][0]["env"];
        assert_eq!(
            (&env[0]["value"], &env[1]["value"]),
            (&json!("(removed)"), &json!("info"))
        );
    }

    #[test]
    fn texts_lose_what_looks_like_a_secret() {
        let token = [
            "eyJhbGciOiJSUzI1NiJ9",
            "eyJhdWQiOlsid2VmdCJdfQ",
            "c2lnbmF0dXJl",
        ]
        .join(".");
        let key = |newline: &str| {
            [
                "-----BEGIN PRIVATE KEY-----",
                "MIGH",
                "-----END PRIVATE KEY-----",
            ]
            .join(newline)
        };
        for (secret, kept) in [
            (
                format!("token {token} refused"),
                "token (token removed) refused",
            ),
            (format!("a {} b", key("\n")), "a (private key removed) b"),
            (
                format!("{{\"key\":\"{}\"}}", key("\\n")),
                "{\"key\":\"(private key removed)\"}",
            ),
            (
                "authorization: Bearer abcdefgh12345".to_owned(),
                "authorization: Bearer (removed)",
            ),
            ("basic things stay".to_owned(), "basic things stay"),
        ] {
            assert_eq!(text(&secret), kept);
        }
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";
        assert_eq!(text(certificate), certificate);
    }
}
