//! The MeshConfig in force: the object named `default`, over the settings of the control plane.

use ipnet::IpNet;
use weft_identity::TrustDomain;
use weft_model::{Kind, MeshConfig as Config, ObjectKey, Reason, Spec, World};

use crate::findings::Findings;
use crate::resource::MeshConfig;

/// What the control plane runs with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The trust domain of all identities.
    pub trust_domain: TrustDomain,
    /// Addresses of pods and Services where no MeshConfig names them.
    pub address_ranges: Vec<IpNet>,
}

/// What the user says for the whole mesh; all left open where there is no usable object.
pub(crate) fn in_force(world: &World) -> Config {
    let key = ObjectKey::new(Kind::MeshConfig, "", "default");
    let object = world
        .object(&key)
        .filter(|object| object.problems.is_empty());
    match object.map(|object| &object.spec) {
        Some(Spec::MeshConfig(config)) => config.clone(),
        _ => Config::default(),
    }
}

/// The resource.
pub(crate) fn compile(settings: &Settings, config: &Config) -> MeshConfig {
    let ranges = if config.mesh_cidrs.is_empty() {
        &settings.address_ranges
    } else {
        &config.mesh_cidrs
    };
    MeshConfig {
        trust_domain: settings.trust_domain.clone(),
        address_ranges: ranges.clone(),
        outbound_policy: config.outbound_policy.unwrap_or_default(),
        access_log: config.access_log.unwrap_or(true),
    }
}

/// What is to be said about one MeshConfig.
pub(crate) fn check(settings: &Settings, world: &World, key: &ObjectKey) -> Findings {
    let mut findings = Findings::default();
    let Some(object) = world.object(key) else {
        return findings;
    };
    let Spec::MeshConfig(config) = &object.spec else {
        return findings;
    };
    if *key.name != *"default" {
        findings.error(
            object,
            "metadata.name".into(),
            Reason::InvalidValue,
            "the MeshConfig in force is the one named default; this one has no effect",
        );
    }
    if let Some(domain) = &config.trust_domain
        && **domain != *settings.trust_domain.as_str()
    {
        findings.error(
            object,
            "spec.trustDomain".into(),
            Reason::UnsupportedValue,
            format!(
                "the control plane runs with trust domain {}, which cannot change here; remove the field",
                settings.trust_domain
            ),
        );
    }
    findings
}
