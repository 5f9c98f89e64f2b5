//! Why a piece of configuration cannot be used: the field and the reason, as data.

use std::fmt;

/// One field that cannot be used. The resource's name is added by whoever knows it (the decoder).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field inside its resource, e.g. `ports[0].rules[2].match.path`.
    pub field: String,
    /// What is wrong, for people.
    pub reason: String,
}

impl Invalid {
    /// A fault of `field`.
    pub fn new(field: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self {
            field: field.into(),
            reason: reason.to_string(),
        }
    }

    /// The same fault seen from one level further out.
    #[must_use]
    pub fn within(mut self, outer: impl fmt::Display) -> Self {
        self.field = match self.field.as_str() {
            "" => outer.to_string(),
            inner if inner.starts_with('[') => format!("{outer}{inner}"),
            inner => format!("{outer}.{inner}"),
        };
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.field, self.reason)
        }
    }
}

impl std::error::Error for Invalid {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_from_the_outside_in() {
        let fault = Invalid::new("path", "no")
            .within("match")
            .within("rules[2]");
        assert_eq!(fault.to_string(), "rules[2].match.path: no");
        assert_eq!(Invalid::new("[1]", "no").within("rules").field, "rules[1]");
        assert_eq!(Invalid::new("", "no").within("rules").field, "rules");
    }
}
