//! What the user's YAML asks this machine to run: accepted objects → [`Desired`], with a [`Problem`] for
//! everything that it asks for and cannot have. Pure: no IO, no clock.

pub mod env;
pub mod image;
mod read;
pub mod rollout;
pub mod template;

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};
use weft_api::kubernetes::{ConfigMap, Deployment, EndpointSlice, Pod, Service};
use weft_api::{ApiObject, ObjectKey};
use weft_inject::Asked;
use weft_inject::names::INJECT;
use weft_source::Objects;

pub use template::PodTemplate;
use template::Refusal;

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The object's; a Namespace has none around it.
    fn of(object: &ApiObject) -> Self {
        Self::new(object.namespace(), object.name())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Something that this machine does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object.
    pub object: ObjectKey,
    /// The field's path.
    pub field: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Problem {
    /// `Kind namespace/name: field: reason`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object, self.field, self.reason)
    }
}

/// A Deployment reduced to what runs it.
#[derive(Clone, Debug)]
pub struct DeploymentSpec {
    /// How many pods.
    pub replicas: usize,
    /// How a change of the template is rolled out.
    pub strategy: rollout::Strategy,
    /// The pods.
    pub template: PodTemplate,
}

/// Everything that is to run, and the Services in front of it.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Namespaces with their labels; those that are only mentioned have none.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Deployments.
    pub deployments: BTreeMap<Key, DeploymentSpec>,
    /// Pods that the user wrote as such.
    pub pods: BTreeMap<Key, PodTemplate>,
    /// Services, except `ExternalName`.
    pub services: BTreeMap<Key, Service>,
    /// EndpointSlices that the user wrote.
    pub endpoint_slices: BTreeMap<Key, EndpointSlice>,
    /// What could not be had.
    pub problems: Vec<Problem>,
}

impl Desired {
    /// Reads the objects. What cannot be run is left out and named in `problems`.
    pub fn from_objects(objects: &Objects) -> Self {
        let mut desired = Self::default();
        let config_maps: BTreeMap<Key, &ConfigMap> = objects
            .iter()
            .filter_map(|object| match &**object {
                ApiObject::ConfigMap(map) => Some((Key::of(object), &**map)),
                _ => None,
            })
            .collect();
        for object in objects.iter() {
            let key = Key::of(object);
            let result = match &**object {
                ApiObject::Namespace(namespace) => {
                    let labels = namespace.metadata.labels.clone().unwrap_or_default();
                    desired.namespaces.insert(key.name, labels);
                    Ok(())
                }
                ApiObject::Deployment(deployment) => {
                    desired.add_deployment(key, deployment, &config_maps)
                }
                ApiObject::Pod(pod) => desired.add_pod(key, pod, &config_maps),
                ApiObject::Service(service) => desired.add_service(key, service),
                ApiObject::EndpointSlice(slice) => {
                    desired.endpoint_slices.insert(key, (**slice).clone());
                    Ok(())
                }
                _ => Ok(()),
            };
            for refusal in result.err().into_iter().flatten() {
                desired.problems.push(Problem {
                    object: object.key(),
                    field: refusal.field,
                    reason: refusal.reason,
                });
            }
        }
        desired
    }

    /// Whether a pod of this namespace gets a proxy.
    pub fn meshed(&self, namespace: &str, template: &PodTemplate) -> bool {
        let of_namespace = self.namespaces.get(namespace);
        let of_namespace = of_namespace.and_then(|labels| labels.get(INJECT));
        template
            .asked(of_namespace.map(String::as_str))
            .is_ok_and(Asked::is_asked)
    }

    fn add_deployment(
        &mut self,
        key: Key,
        deployment: &Deployment,
        config_maps: &BTreeMap<Key, &ConfigMap>,
    ) -> Result<(), Vec<Refusal>> {
        let spec = deployment
            .spec
            .clone()
            .ok_or_else(|| Refusal::one("spec", "missing"))?;
        let pod = spec.template.spec.unwrap_or_default();
        let meta = spec.template.metadata.unwrap_or_default();
        let template =
            PodTemplate::parse(&key.namespace, meta, pod, config_maps).map_err(|all| {
                let below = |refusal: Refusal| Refusal {
                    field: format!("spec.template.{}", refusal.field),
                    ..refusal
                };
                all.into_iter().map(below).collect::<Vec<_>>()
            })?;
        let spec = DeploymentSpec {
            replicas: usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0),
            strategy: rollout::Strategy::parse(spec.strategy.as_ref()),
            template,
        };
        self.deployments.insert(key, spec);
        Ok(())
    }

    fn add_pod(
        &mut self,
        key: Key,
        pod: &Pod,
        config_maps: &BTreeMap<Key, &ConfigMap>,
    ) -> Result<(), Vec<Refusal>> {
        let spec = pod
            .spec
            .clone()
            .ok_or_else(|| Refusal::one("spec", "missing"))?;
        let template = PodTemplate::parse(&key.namespace, pod.metadata.clone(), spec, config_maps)?;
        self.pods.insert(key, template);
        Ok(())
    }

    fn add_service(&mut self, key: Key, service: &Service) -> Result<(), Vec<Refusal>> {
        let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
        if kind == Some("ExternalName") {
            return Err(Refusal::one(
                "spec.type",
                "ExternalName has no DNS on one machine",
            ));
        }
        self.services.insert(key, service.clone());
        Ok(())
    }
}

/// Kubernetes' alphabet for generated names: no vowels, nothing that looks like another.
pub const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name-safe digest of `content`, `length` characters long.
pub fn name_hash(content: &[u8], length: usize) -> String {
    Sha256::digest(content)
        .iter()
        .take(length)
        .map(|byte| char::from(NAME_ALPHABET[usize::from(*byte) % NAME_ALPHABET.len()]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_external_name_is_refused() {
        let service = serde_json::json!({"metadata": {"name": "s"}, "spec": {"type": "ExternalName", "externalName": "a.example"}});
        let service: Service = serde_json::from_value(service).unwrap();
        let mut desired = Desired::default();
        let refused = desired.add_service(Key::new("shop", "s"), &service);
        assert_eq!(refused.unwrap_err()[0].field, "spec.type");
        assert!(desired.services.is_empty());
    }
}
