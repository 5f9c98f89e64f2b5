//! The values of a mesh that is installed, read back from its objects: however it was installed, an upgrade keeps what
//! was chosen.

use serde_json::Value;
use weft_inject::InjectSettings;

use crate::values::{ControlPlane, Image, Proxy, Webhook};
use crate::{Values, names};

/// The objects of a mesh that say what was chosen; null where one is not there.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The control plane's Namespace.
    pub namespace: Value,
    /// Its Deployment.
    pub deployment: Value,
    /// The MutatingWebhookConfiguration.
    pub webhook: Value,
    /// The NetworkPolicy that lets the API server in.
    pub network_policy: Value,
}

/// Something of the mesh is not as an installation makes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field} is not as `weft install` writes it; say it with --set")]
pub struct NotFound {
    object: &'static str,
    field: &'static str,
}

impl Found {
    /// The values by which an installation makes these objects.
    ///
    /// # Errors
    /// The Deployment lacks something that every installation writes.
    pub fn values(&self) -> Result<Values, NotFound> {
        let inject = self.env("WEFT_INJECT")?.replace("$$", "$");
        let inject: InjectSettings =
            serde_json::from_str(&inject).map_err(|_| lacks("WEFT_INJECT"))?;
        let registry = inject
            .image
            .strip_suffix(&format!("/proxy:{}", inject.version));
        let registry = registry
            .ok_or_else(|| lacks("WEFT_INJECT.image"))?
            .to_owned();
        let part_of = &self.namespace["metadata"]["labels"]["app.kubernetes.io/part-of"];
        Ok(Values {
            namespace: text(
                &self.deployment["metadata"]["namespace"],
                "metadata.namespace",
            )?,
            create_namespace: part_of == "weft",
            trust_domain: self.env("WEFT_TRUST_DOMAIN")?.to_owned(),
            crds: true,
            network_policies: !self.network_policy.is_null(),
            image: Image {
                registry,
                tag: inject.version,
                pull_policy: inject.image_pull_policy,
            },
            control_plane: self.control_plane()?,
            proxy: Proxy {
                log: inject.log,
                cpu_request: inject.resources.cpu_request,
                cpu_limit: inject.resources.cpu_limit,
                memory_request: inject.resources.memory_request,
                memory_limit: inject.resources.memory_limit,
            },
            webhook: self.webhook(),
        })
    }

    fn container(&self) -> &Value {
        &self.deployment["spec"]["template"]["spec"]["containers"][0]
    }

    fn env(&self, name: &'static str) -> Result<&str, NotFound> {
        let mut all = self.container()["env"].as_array().into_iter().flatten();
        let found = all.find(|one| one["name"] == name);
        found
            .and_then(|one| one["value"].as_str())
            .ok_or_else(|| lacks(name))
    }

    fn control_plane(&self) -> Result<ControlPlane, NotFound> {
        let replicas = number(&self.deployment["spec"]["replicas"]);
        let resources = &self.container()["resources"];
        let (requests, limits) = (&resources["requests"], &resources["limits"]);
        Ok(ControlPlane {
            // Scaled to nothing by hand is no choice for a mesh.
            replicas: replicas
                .filter(|count| *count > 0)
                .unwrap_or(Values::default().control_plane.replicas),
            log: self.env("WEFT_LOG")?.to_owned(),
            leaf_lifetime: self.env("WEFT_LEAF_LIFETIME")?.to_owned(),
            root_lifetime: self.env("WEFT_ROOT_LIFETIME")?.to_owned(),
            cpu_request: text(&requests["cpu"], "requests.cpu")?,
            memory_request: text(&requests["memory"], "requests.memory")?,
            memory_limit: text(&limits["memory"], "limits.memory")?,
        })
    }

    fn webhook(&self) -> Webhook {
        let (found, usual) = (&self.webhook["webhooks"][0], Values::default().webhook);
        Webhook {
            failure_policy: found["failurePolicy"]
                .as_str()
                .map_or(usual.failure_policy, str::to_owned),
            timeout_seconds: number(&found["timeoutSeconds"]).unwrap_or(usual.timeout_seconds),
            api_server_cidrs: self.api_server_cidrs(),
        }
    }

    fn api_server_cidrs(&self) -> Vec<String> {
        let from = self.network_policy["spec"]["ingress"][0]["from"].as_array();
        let blocks = from
            .into_iter()
            .flatten()
            .filter_map(|one| one["ipBlock"]["cidr"].as_str());
        blocks.map(str::to_owned).collect()
    }
}

fn lacks(field: &'static str) -> NotFound {
    NotFound {
        object: "Deployment",
        field,
    }
}

fn text(value: &Value, field: &'static str) -> Result<String, NotFound> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| lacks(field))
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

/// The name of the NetworkPolicy that lets the API server in.
pub fn api_server_policy() -> String {
    format!("{}-api-server", names::CONTROL_PLANE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects;

    #[test]
    fn what_was_chosen_is_read_back() {
        let sets: [&[&str]; 3] = [
            &[],
            &[
                "namespace=mesh",
                "createNamespace=false",
                "networkPolicies=false",
                "proxy.memoryLimit=",
                "proxy.log=warn,a=$b",
            ],
            &[
                "image.registry=registry.example:5000/weft",
                "image.tag=1.2.3",
                "image.pullPolicy=Always",
                "trustDomain=example.org",
                "controlPlane.replicas=5",
                "controlPlane.leafLifetime=1h",
                "proxy.cpuLimit=1",
                "webhook.failurePolicy=Ignore",
                "webhook.timeoutSeconds=3",
                "webhook.apiServerCidrs=10.0.0.1/32,fd00::1/128",
            ],
        ];
        for chosen in sets {
            let values = Values::with(chosen.iter().copied()).unwrap();
            let all = objects(&values).unwrap();
            let of = |kind: &str, name: &str| {
                let mut found = all
                    .iter()
                    .filter(|one| one["kind"] == kind && one["metadata"]["name"] == name);
                found.next().cloned().unwrap_or_default()
            };
            let found = Found {
                namespace: of("Namespace", &values.namespace),
                deployment: of("Deployment", names::CONTROL_PLANE),
                webhook: of("MutatingWebhookConfiguration", names::INJECTOR),
                network_policy: of("NetworkPolicy", &api_server_policy()),
            };
            assert_eq!(found.values().unwrap(), values, "{chosen:?}");
        }
        let nothing = Found::default().values().unwrap_err().to_string();
        assert!(nothing.starts_with("Deployment: "), "{nothing}");
    }
}
