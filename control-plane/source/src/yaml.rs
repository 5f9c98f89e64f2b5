//! The text of a file → its documents, with the line of every field.
//!
//! Documents are cut at their markers first and parsed one by one, so that a syntax error in one
//! leaves the others readable.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, MessageFormatter, Options, Spanned, UserMessageFormatter};
use weft_api::{FieldPath, Segment};

/// Bounds of what one file may make the reader do, aliases expanded.
const MAX_NODES: usize = 1_000_000;
const MAX_REPLAYED_EVENTS: usize = 100_000;
const MAX_DEPTH: usize = 64;

/// One document.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// Its content.
    pub(crate) value: Value,
    /// The lines of its fields.
    pub(crate) lines: Lines,
}

/// The text is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where, from 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
}

/// A document as it is written, for who changes some and leaves the others as they are. The texts
/// of all pieces together are the text of the file.
#[derive(Clone, Debug)]
pub struct Piece<'a> {
    /// The text, beginning with its marker.
    pub text: &'a str,
    /// The line of its content, from 1.
    pub line: u32,
    /// The content; none where there are but comments.
    pub content: Result<Option<Value>, SyntaxError>,
}

/// Cuts a text into its documents.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let read = |(line, text): (u32, _)| {
        let document = match has_content(text) {
            true => document(text, line),
            false => Ok(None),
        };
        let line = match &document {
            Ok(Some(document)) => document.lines.line,
            _ => line,
        };
        Piece {
            text,
            line,
            content: document.map(|document| document.map(|document| document.value)),
        }
    };
    split(text).into_iter().map(read).collect()
}

/// The line of a value and of everything in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lines {
    /// The line, from 1. For the entry of a map: the line of its key.
    pub(crate) line: u32,
    children: Children,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Children {
    Scalar,
    List(Vec<Lines>),
    Map(Vec<(Box<str>, Lines)>),
}

impl Lines {
    /// The line of the field, or of what is closest to it above: a missing field has the line of
    /// the map that it is missing from.
    pub(crate) fn find(&self, path: &FieldPath) -> u32 {
        let mut here = self;
        for step in path.segments() {
            let below = match (step, &here.children) {
                (Segment::Key(key), Children::Map(entries)) => entries
                    .iter()
                    .find(|(name, _)| **name == **key)
                    .map(|(_, lines)| lines),
                (Segment::Index(index), Children::List(items)) => items.get(*index),
                _ => None,
            };
            match below {
                Some(lines) => here = lines,
                None => break,
            }
        }
        here.line
    }

    fn shift(&mut self, by: u32) {
        self.line = self.line.saturating_add(by);
        match &mut self.children {
            Children::Scalar => {}
            Children::List(items) => items.iter_mut().for_each(|item| item.shift(by)),
            Children::Map(entries) => entries.iter_mut().for_each(|(_, item)| item.shift(by)),
        }
    }

    /// The lines of an item of the list under `key`.
    pub(crate) fn item(&self, key: &str, index: usize) -> Option<&Self> {
        let Children::Map(entries) = &self.children else {
            return None;
        };
        match &entries.iter().find(|(name, _)| **name == *key)?.1.children {
            Children::List(items) => items.get(index),
            _ => None,
        }
    }
}

/// Reads all documents of the text; empty ones are left out.
pub(crate) fn documents(text: &str) -> Vec<Result<Document, SyntaxError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    split(text)
        .into_iter()
        .filter(|(_, chunk)| has_content(chunk))
        .filter_map(|(first_line, chunk)| document(chunk, first_line).transpose())
        .collect()
}

/// Cuts the text at document markers (`---`, `...`): chunks with the line that each begins at.
/// Content on the line of a marker stays with the chunk that the marker opens.
fn split(text: &str) -> Vec<(u32, &str)> {
    let mut chunks = Vec::new();
    let (mut start, mut first_line) = (0, 1);
    let (mut offset, mut line) = (0, 1);
    for whole in text.split_inclusive('\n') {
        let bare = whole.trim_end_matches(['\n', '\r']);
        let is_marker = |marker: &str| {
            bare.strip_prefix(marker)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        };
        if is_marker("---") || is_marker("...") {
            chunks.push((first_line, &text[start..offset]));
            (start, first_line) = (offset, line);
        }
        offset += whole.len();
        line += 1;
    }
    chunks.push((first_line, &text[start..]));
    chunks
}

/// Whether there is more than comments, directives and a bare marker.
fn has_content(chunk: &str) -> bool {
    chunk.lines().enumerate().any(|(at, line)| {
        let line = match at {
            0 => line
                .strip_prefix("---")
                .or(line.strip_prefix("..."))
                .unwrap_or(line),
            _ => line,
        };
        let trimmed = line.trim_start();
        !(trimmed.is_empty() || trimmed.starts_with('#') || line.starts_with('%'))
    })
}

fn document(chunk: &str, first_line: u32) -> Result<Option<Document>, SyntaxError> {
    match serde_saphyr::from_str_with_options::<Spanned<Node>>(chunk, options()) {
        Ok(root) if root.value.value.is_null() => Ok(None),
        Ok(root) => {
            let mut lines = root.value.lines;
            lines.line = line_of(root.referenced);
            lines.shift(first_line - 1);
            Ok(Some(Document {
                value: root.value.value,
                lines,
            }))
        }
        Err(error) => {
            let error = error.without_snippet();
            Err(SyntaxError {
                line: error.location().map_or(1, line_of) + first_line - 1,
                message: UserMessageFormatter.format_message(error).into_owned(),
            })
        }
    }
}

/// Lines beyond `u32` do not occur: files are bounded.
fn line_of(location: Location) -> u32 {
    u32::try_from(location.line()).unwrap_or(u32::MAX).max(1)
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPLAYED_EVENTS,
        },
        // As kubectl reads it: `defaultMode: 0644` is a mode.
        legacy_octal_numbers: true,
        emit_comments: false,
        with_snippet: false,
    }
}

/// A value and its lines, as they are read together.
struct Node {
    value: Value,
    lines: Lines,
}

impl Node {
    fn scalar(value: Value) -> Self {
        let lines = Lines {
            line: 0,
            children: Children::Scalar,
        };
        Self { value, lines }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::scalar(Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::scalar(Value::from(value)))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(Node::scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::scalar(Value::from(value)))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let (mut values, mut lines) = (Vec::new(), Vec::new());
        while let Some(item) = list.next_element::<Spanned<Node>>()? {
            let mut below = item.value.lines;
            below.line = line_of(item.referenced);
            values.push(item.value.value);
            lines.push(below);
        }
        Ok(Node {
            value: Value::Array(values),
            lines: Lines {
                line: 0,
                children: Children::List(lines),
            },
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let (mut values, mut lines) = (Map::new(), Vec::new());
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let item = map.next_value::<Node>()?;
            let mut below = item.lines;
            below.line = line_of(key.referenced);
            lines.push((key.value.as_str().into(), below));
            values.insert(key.value, item.value);
        }
        Ok(Node {
            value: Value::Object(values),
            lines: Lines {
                line: 0,
                children: Children::Map(lines),
            },
        })
    }
}

#[cfg(test)]
mod tests;
