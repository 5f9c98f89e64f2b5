//! The path of a field inside one object, as people read it: `spec.rules[0].matches[1].path.value`.

use std::fmt;

/// One step down into an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// The entry of a map.
    Key(String),
    /// The item of a list, from 0.
    Index(usize),
}

/// A path from the root of an object to one of its fields. The empty path is the object itself.
///
/// It is written as keys joined by dots and indices in brackets; a key that holds a dot, a bracket
/// or a quote is written `["key"]`. [`FieldPath::parse`] reads the same form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldPath(Vec<Segment>);

impl FieldPath {
    /// The path of the object itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Reads the written form. Total: what cannot be a step is taken as part of a key.
    pub fn parse(text: &str) -> Self {
        let mut path = Self::root();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(quoted) = rest.strip_prefix("[\"") {
                let end = quoted.find("\"]").unwrap_or(quoted.len());
                path.0.push(Segment::Key(quoted[..end].to_owned()));
                rest = quoted.get(end + 2..).unwrap_or("");
            } else if let Some((index, after)) = leading_index(rest) {
                path.0.push(Segment::Index(index));
                rest = after;
            } else {
                let ends = rest.match_indices(['.', '[']).find(|(at, _)| *at > 0);
                let end = ends.map_or(rest.len(), |(at, _)| at);
                path.0.push(Segment::Key(rest[..end].to_owned()));
                rest = &rest[end..];
            }
            rest = rest.strip_prefix('.').unwrap_or(rest);
        }
        path
    }

    /// This path and one key more.
    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> Self {
        let mut path = self.clone();
        path.0.push(Segment::Key(key.into()));
        path
    }

    /// This path and one index more.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Segment::Index(index));
        path
    }

    /// The steps from the root.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The path without its last step; none for the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, front) = self.0.split_last()?;
        Some(Self(front.to_vec()))
    }

    /// Whether this is `other` or below it.
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Whether this is the object itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The index at which this path goes through the list `field` of `spec`, if it does:
    /// 2 for `spec.rules[2].name` and `rules`.
    pub fn spec_item(&self, field: &str) -> Option<usize> {
        match self.0.as_slice() {
            [
                Segment::Key(spec),
                Segment::Key(list),
                Segment::Index(index),
                ..,
            ] if spec == "spec" && list == field => Some(*index),
            _ => None,
        }
    }

    /// The value at this path.
    pub fn find<'a>(&self, root: &'a serde_json::Value) -> Option<&'a serde_json::Value> {
        self.0.iter().try_fold(root, |value, step| match step {
            Segment::Key(key) => value.get(key),
            Segment::Index(index) => value.get(index),
        })
    }

    /// The value at this path, to be changed.
    pub fn find_mut<'a>(
        &self,
        root: &'a mut serde_json::Value,
    ) -> Option<&'a mut serde_json::Value> {
        self.0.iter().try_fold(root, |value, step| match step {
            Segment::Key(key) => value.get_mut(key),
            Segment::Index(index) => value.get_mut(index),
        })
    }
}

/// `[12]rest` → `(12, rest)`.
fn leading_index(text: &str) -> Option<(usize, &str)> {
    let (digits, rest) = text.strip_prefix('[')?.split_once(']')?;
    Some((digits.parse().ok()?, rest))
}

impl From<Vec<Segment>> for FieldPath {
    fn from(segments: Vec<Segment>) -> Self {
        Self(segments)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if key.is_empty() || key.contains(['.', '[', ']', '"']) => {
                    write!(f, "[\"{key}\"]")?;
                }
                Segment::Key(key) if at == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let path = FieldPath::root()
            .key("metadata")
            .key("labels")
            .key("app.kubernetes.io/name");
        assert_eq!(
            path.to_string(),
            "metadata.labels[\"app.kubernetes.io/name\"]"
        );
        assert_eq!(FieldPath::parse(&path.to_string()), path);

        let path = FieldPath::root()
            .key("spec")
            .key("rules")
            .index(10)
            .key("name");
        assert_eq!(path.to_string(), "spec.rules[10].name");
        assert_eq!(FieldPath::parse("spec.rules[10].name"), path);
        assert_eq!(path.spec_item("rules"), Some(10));
        assert_eq!(path.spec_item("hostnames"), None);
        assert_eq!(FieldPath::parse(""), FieldPath::root());
    }

    #[test]
    fn odd_text_does_not_panic() {
        for text in ["[", "[x]", "a[", "a..b", ".", "[\"", "a[\"b", "é[0]ü"] {
            let _ = FieldPath::parse(text).to_string();
        }
    }
}
