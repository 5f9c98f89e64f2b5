//! serde's type errors, in the words of people who write YAML.

/// The field's name in ``missing field `name` ``.
pub(crate) fn missing_field(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("missing field `")?;
    rest.split_once('`').map(|(name, _)| name)
}

/// `invalid type: boolean `true`, expected a string` → `expected a string, found boolean `true`;
/// put it in quotes`.
pub(crate) fn in_plain_words(message: &str) -> String {
    let found = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "));
    let Some((found, expected)) = found.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return message.to_owned();
    };
    let expected = match expected {
        "a sequence" => "a list",
        "i32" => "a whole number up to 2147483647",
        "i64" => "a whole number",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        name if name.starts_with("struct ") || is_type_name(name) => "a map",
        other => other,
    };
    let is_scalar = ["boolean", "integer", "floating point"]
        .iter()
        .any(|scalar| found.starts_with(scalar));
    let hint = match expected {
        "a string" if is_scalar => "; put it in quotes",
        _ => "",
    };
    let found = match found {
        "sequence" => "a list",
        "map" => "a map",
        "null" | "unit value" => "nothing",
        other => other,
    };
    format!("expected {expected}, found {found}{hint}")
}

/// `DeploymentSpec`: the Kubernetes types name themselves.
fn is_type_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_speak_of_yaml() {
        for (message, expected) in [
            (
                "invalid type: boolean `true`, expected a string",
                "expected a string, found boolean `true`; put it in quotes",
            ),
            (
                "invalid type: sequence, expected struct WorkloadSelector",
                "expected a map, found a list",
            ),
            (
                "invalid type: null, expected a sequence",
                "expected a list, found nothing",
            ),
            (
                "invalid type: string \"a\", expected PodSpec",
                "expected a map, found string \"a\"",
            ),
            (
                "invalid value: integer `-1`, expected u16",
                "expected a whole number from 0 to 65535, found integer `-1`",
            ),
            (
                "unknown variant `AUDIT`, expected `ALLOW` or `DENY`",
                "unknown variant `AUDIT`, expected `ALLOW` or `DENY`",
            ),
        ] {
            assert_eq!(in_plain_words(message), expected);
        }
    }
}
