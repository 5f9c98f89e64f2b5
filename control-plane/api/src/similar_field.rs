//! Which field somebody may have meant by a name that the type does not have, by its schema.

use serde_json::{Map, Value};

use crate::Kind;
use crate::field_path::{FieldPath, Segment};
use crate::schema::{resolve, schema};

/// How many letters may be wrong, missing, too many or swapped.
const MAX_DISTANCE: usize = 2;

/// The schema of a kind, to look for fields in it.
pub(crate) struct Schema(Value);

impl Schema {
    pub(crate) fn of(kind: Kind) -> Self {
        Self(schema(kind))
    }

    /// The field beside `path` whose name is closest to its last step.
    pub(crate) fn similar(&self, path: &FieldPath) -> Option<&str> {
        let (name, fields) = self.beside(path)?;
        let distance =
            |field: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &field.to_lowercase());
        let close = fields.keys().map(|field| (distance(field), field.as_str()));
        let close =
            close.filter(|(distance, field)| *distance <= MAX_DISTANCE.min(field.len() / 2));
        close.min().map(|(_, field)| field)
    }

    /// Whether the map that `path` leads into has fields, and this is none of them.
    pub(crate) fn lacks(&self, path: &FieldPath) -> bool {
        self.beside(path)
            .is_some_and(|(name, fields)| !fields.contains_key(&name))
    }

    /// The last step of `path`, and the fields that can stand there.
    fn beside(&self, path: &FieldPath) -> Option<(String, &Map<String, Value>)> {
        let Some((Segment::Key(name), above)) = path.segments().split_last() else {
            return None;
        };
        let place = above
            .iter()
            .try_fold(resolve(&self.0, &self.0)?, |place, step| {
                let below = match step {
                    Segment::Index(_) => place.get("items")?,
                    Segment::Key(key) => {
                        let named = place.get("properties").and_then(|fields| fields.get(key));
                        named.or_else(|| place.get("additionalProperties"))?
                    }
                };
                resolve(&self.0, below)
            })?;
        Some((name.clone(), place.get("properties")?.as_object()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_in_every_family_of_types() {
        for (kind, path, meant) in [
            (Kind::Deployment, "spec.replcas", Some("replicas")),
            (
                Kind::Deployment,
                "spec.template.spec.containers[0].ports[0].nmae",
                Some("name"),
            ),
            (Kind::Service, "metadata.lables", Some("labels")),
            (
                Kind::HttpRoute,
                "spec.rules[0].backendRef",
                Some("backendRefs"),
            ),
            (
                Kind::GrpcRoute,
                "spec.rules[0].matches[0].mehtod",
                Some("method"),
            ),
            (
                Kind::AuthorizationPolicy,
                "spec.rules[0].from[0].principal",
                Some("principals"),
            ),
            (
                Kind::PeerAuthentication,
                "spec.portLevelMtls.8080.mod",
                Some("mode"),
            ),
            (Kind::TrafficPolicy, "spec.retries.retryon", Some("retryOn")),
            (Kind::MeshConfig, "spec.meshCidrs", Some("meshCIDRs")),
            (Kind::MeshConfig, "spec.somethingElse", None),
            (Kind::MeshConfig, "spec.nowhere.below", None),
            (Kind::ClusterIps, "spec.service", None),
        ] {
            let schema = Schema::of(kind);
            assert_eq!(
                schema.similar(&FieldPath::parse(path)),
                meant,
                "{kind} {path}"
            );
        }
    }
}
