//! A deserialiser that sees only some fields of what it reads: of a pod of 10 KiB a mesh needs a
//! few hundred bytes, and the rest is skipped where it stands, never built.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

/// Which fields of a value are read. Lists are passed through to their items.
#[derive(Debug)]
pub(crate) enum Fields {
    /// Everything.
    All,
    /// These, and of each what stands beside it.
    Only(Known),
}

pub(crate) type Known = &'static [(&'static str, Fields)];

/// The deserialiser: `inner`, without the fields that are not known.
pub(crate) struct Projected<T> {
    pub(crate) inner: T,
    pub(crate) known: Known,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Projected<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let known = self.known;
        self.inner.deserialize_any(Projected {
            inner: visitor,
            known,
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let known = self.known;
        self.inner.deserialize_option(Projected {
            inner: visitor,
            known,
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// As a visitor: nothing but structure stands above the fields that are read.
impl<'de, V: Visitor<'de>> Visitor<'de> for Projected<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let known = self.known;
        self.inner.visit_some(Projected { inner, known })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let known = self.known;
        self.inner.visit_seq(Projected { inner, known })
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Map {
            inner,
            known: self.known,
            below: &Fields::All,
        })
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Projected<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let known = self.known;
        self.inner.deserialize(Projected { inner, known })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Projected<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_element_seed(Projected {
            inner: seed,
            known: self.known,
        })
    }
}

/// The entries of a map with known keys.
struct Map<A> {
    inner: A,
    known: Known,
    /// What of the present entry's value is read.
    below: &'static Fields,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Map<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        while let Some(found) = self.inner.next_key_seed(Key(self.known))? {
            if let Some((key, below)) = found {
                self.below = below;
                let key: StrDeserializer<'_, A::Error> = key.into_deserializer();
                return seed.deserialize(key).map(Some);
            }
            self.inner.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        match self.below {
            Fields::All => self.inner.next_value_seed(seed),
            Fields::Only(known) => self.inner.next_value_seed(Projected { inner: seed, known }),
        }
    }
}

/// Looks a key up among the known ones.
struct Key(Known);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<&'static (&'static str, Fields)>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<&'static (&'static str, Fields)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|(known, _)| *known == key))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use weft_api::kubernetes::Pod;

    use super::*;

    const KNOWN: Known = &[
        (
            "metadata",
            Fields::Only(&[
                ("name", Fields::All),
                ("annotations", Fields::Only(&[("wanted", Fields::All)])),
            ]),
        ),
        (
            "spec",
            Fields::Only(&[(
                "containers",
                Fields::Only(&[("name", Fields::All), ("ports", Fields::All)]),
            )]),
        ),
        ("status", Fields::Only(&[("phase", Fields::All)])),
    ];

    #[test]
    fn only_known_fields_are_read() {
        let text = r#"{
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"labels": {"a": "b"}, "name": "p", "annotations": {"wanted": "1", "not": "2"}},
            "spec": {"nodeName": 7, "containers": [
                {"image": "i", "name": "one", "ports": [{"containerPort": 80}]},
                {"name": "two", "env": [{"name": "X"}]}
            ]},
            "status": null
        }"#;
        let mut json = serde_json::Deserializer::from_str(text);
        let pod = Pod::deserialize(Projected {
            inner: &mut json,
            known: KNOWN,
        });
        let pod = pod.unwrap();
        json.end().unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("p"));
        assert_eq!(pod.metadata.labels, None);
        assert_eq!(pod.metadata.annotations.unwrap().len(), 1);
        let spec = pod.spec.unwrap();
        assert_eq!(spec.node_name, None, "not even looked at");
        assert_eq!(spec.containers[0].image, None);
        assert_eq!(
            spec.containers[0].ports.as_ref().unwrap()[0].container_port,
            80
        );
        assert_eq!(spec.containers[1].name, "two");
        assert_eq!(pod.status, None);
    }

    #[test]
    fn a_known_field_of_another_type_is_an_error() {
        for text in [r#"{"metadata": 1}"#, r#"{"metadata": {"name": 1}}"#, "[1"] {
            let mut json = serde_json::Deserializer::from_str(text);
            let read = Pod::deserialize(Projected {
                inner: &mut json,
                known: KNOWN,
            });
            assert!(read.is_err(), "{text}");
        }
    }
}
