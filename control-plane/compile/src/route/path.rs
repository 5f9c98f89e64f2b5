//! Which texts can be a path: RFC 3986, section 3.3, and what a proxy makes of a request's path
//! before it is matched (so that a match that no path can have is reported, not shipped).

/// What is wrong with `path` as a path without a query, after "it".
pub(super) fn fault(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("does not begin with /");
    }
    if path.contains(['?', '#']) {
        return Some("goes beyond the path");
    }
    match decoded(path) {
        None => Some("holds a character that must be percent-encoded, or a broken escape"),
        Some(decoded) if decoded.chars().any(char::is_control) => Some("holds a control character"),
        Some(_) => None,
    }
}

/// What is wrong with `path` as something that paths are compared with (Gateway API, validation of
/// `HTTPPathMatch`).
pub(super) fn match_fault(path: &str) -> Option<&'static str> {
    let relative = |element: &str| matches!(element.split(';').next(), Some("." | ".."));
    if let Some(fault) = fault(path) {
        Some(fault)
    } else if path.contains("//") {
        Some("holds //")
    } else if path.to_ascii_lowercase().contains("%2f") {
        Some("holds an encoded slash")
    } else if decoded(path)?.split('/').any(relative) {
        Some("has a relative element")
    } else {
        None
    }
}

/// The path with its escapes resolved; `None` where a character or escape cannot be.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits =
                    [bytes.next()?, bytes.next()?].map(|digit| char::from(digit).to_digit(16));
                let [Some(high), Some(low)] = digits else {
                    return None;
                };
                // Two hexadecimal digits are a byte.
                u8::try_from(high * 16 + low).ok()?
            }
            b'/' => byte,
            _ if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) => byte,
            _ => return None,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_path_can_be_is_named() {
        for good in [
            "/",
            "/a/b",
            "/a/",
            "/caf%C3%A9",
            "/shop.Cart/Add",
            "/a;x=1",
            "/@~!$",
        ] {
            assert_eq!(match_fault(good), None, "{good}");
        }
        for bad in [
            "",
            "a",
            "/a b",
            "/a//b",
            "/a/../b",
            "/%2e%2E/b",
            "/..;x/b",
            "/a%2Fb",
            "/a?b",
            "/a#b",
            "/%",
            "/%zz",
            "/%00",
            "/%c0%af",
            "/é",
            "/a\\b",
            "/<a>",
        ] {
            assert!(match_fault(bad).is_some(), "{bad}");
        }
        assert_eq!(fault("/a/../b"), None, "where a path leads is not compared");
    }
}
