//! The two forms of the API server's answers: pages of a list, and lines of a watch.

use std::fmt;

use kube::core::Status;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::decode::{Decoded, Metadata};
use super::resource::Resource;

/// A page of a list.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) items: Vec<Decoded>,
    pub(crate) metadata: ListMetadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListMetadata {
    /// Where a watch goes on from.
    pub(crate) resource_version: Option<String>,
    /// Names the next page.
    pub(crate) r#continue: Option<String>,
}

impl Page {
    pub(crate) fn read(resource: Resource, text: &str) -> Result<Self, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_str(text);
        let page = json_map(&mut json, Pages(resource))?;
        json.end()?;
        Ok(page)
    }
}

/// One line of a watch.
#[derive(Debug)]
pub(crate) enum Line {
    Applied(Decoded),
    Deleted(Decoded),
    /// Nothing older than this version will come.
    Bookmark(String),
    /// Why the server ends the watch.
    Failed(Box<Status>),
}

#[derive(Deserialize)]
struct Head {
    r#type: String,
}

#[derive(Deserialize)]
struct Of<T> {
    object: T,
}

#[derive(Deserialize)]
struct Marked {
    metadata: Metadata,
}

impl Line {
    pub(crate) fn read(resource: Resource, line: &[u8]) -> Result<Self, serde_json::Error> {
        let head: Head = serde_json::from_slice(line)?;
        Ok(match head.r#type.as_str() {
            "BOOKMARK" => {
                let marked: Of<Marked> = serde_json::from_slice(line)?;
                let version = marked.object.metadata.resource_version;
                Self::Bookmark(version.unwrap_or_default())
            }
            "ERROR" => Self::Failed(serde_json::from_slice::<Of<Box<Status>>>(line)?.object),
            kind => {
                let mut json = serde_json::Deserializer::from_slice(line);
                let object = json_map(&mut json, Events(resource))?;
                match kind {
                    "DELETED" => Self::Deleted(object),
                    _ => Self::Applied(object),
                }
            }
        })
    }
}

fn json_map<'de, R: serde_json::de::Read<'de>, V: Visitor<'de>>(
    json: &mut serde_json::Deserializer<R>,
    visitor: V,
) -> Result<V::Value, serde_json::Error> {
    json.deserialize_map(visitor)
}

/// The map of a page.
struct Pages(Resource);

impl<'de> Visitor<'de> for Pages {
    type Value = Page;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Page, A::Error> {
        let mut page = Page::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "metadata" => page.metadata = map.next_value()?,
                "items" => page.items = map.next_value_seed(Items(self.0))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(page)
    }
}

/// The map of a line with an object.
struct Events(Resource);

impl<'de> Visitor<'de> for Events {
    type Value = Decoded;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an event of {}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Decoded, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == "object" {
                found = Some(map.next_value_seed(Item(self.0))?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        found.ok_or_else(|| serde::de::Error::missing_field("object"))
    }
}

struct Item(Resource);

impl<'de> DeserializeSeed<'de> for Item {
    type Value = Decoded;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Decoded, D::Error> {
        self.0.read(from)
    }
}

/// The items of a page; `null` where there are none.
struct Items(Resource);

impl<'de> DeserializeSeed<'de> for Items {
    type Value = Vec<Decoded>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = Vec<Decoded>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(Item(self.0))? {
            items.push(item);
        }
        Ok(items)
    }
}
