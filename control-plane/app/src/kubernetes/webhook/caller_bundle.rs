//! The bundle by which the API server knows the webhook, in MutatingWebhookConfiguration
//! `weft-injector`: the leader writes it, and every replica learns from it whether it is believed.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};
use weft_certs::{Clock, ServingRotation};

use super::certificate::Serving;
use crate::kubernetes::FIELD_MANAGER;
use crate::kubernetes::changes::{self, Watched};
use crate::kubernetes::lease::Leadership;

/// The configuration, as installed.
const CONFIGURATION: &str = "weft-injector";
/// For reading it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the API server would believe the certificate that is served here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Believed {
    /// It has not been asked for yet.
    #[default]
    Unknown,
    /// The configuration is not there: nobody calls.
    NotCalled,
    Yes,
    No,
}

impl Believed {
    /// Whether a call that came here would not fail for the certificate.
    pub fn is_good(self) -> bool {
        matches!(self, Self::NotCalled | Self::Yes)
    }
}

/// One replica's part in it.
pub(crate) struct CallerBundle {
    configurations: Api<MutatingWebhookConfiguration>,
    leadership: watch::Receiver<Leadership>,
    rotation: watch::Receiver<Option<Arc<ServingRotation>>>,
    serving: Serving,
    /// What the API server calls this by.
    name: String,
    clock: Arc<dyn Clock>,
    believed: watch::Sender<Believed>,
}

impl changes::Reconcile for CallerBundle {
    const WHAT: &str = "webhook bundle";

    async fn reconcile(&self) -> anyhow::Result<bool> {
        let found = timeout(PATIENCE, self.configurations.get_opt(CONFIGURATION)).await;
        let found = found.context("the API server does not answer")??;
        let believed = match found {
            None => Believed::NotCalled,
            Some(found) => {
                let written = self.write(&found).await?;
                match self.is_believed(written.as_ref().unwrap_or(&found)) {
                    true => Believed::Yes,
                    false => Believed::No,
                }
            }
        };
        self.believed.send_if_modified(|before| {
            let changed = *before != believed;
            *before = believed;
            changed
        });
        Ok(believed.is_good())
    }
}

impl CallerBundle {
    pub fn new(
        client: Client,
        leadership: watch::Receiver<Leadership>,
        rotation: watch::Receiver<Option<Arc<ServingRotation>>>,
        serving: Serving,
        name: String,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            configurations: Api::all(client),
            leadership,
            rotation,
            serving,
            name,
            clock,
            believed: watch::Sender::default(),
        }
    }

    /// What was last found; it stays while the API server is away.
    pub fn believed(&self) -> watch::Receiver<Believed> {
        self.believed.subscribe()
    }

    /// Keeps for ever.
    pub async fn keep(&self) {
        let changed = Notify::new();
        let leadership = self.leadership.clone();
        let (mut rotation, mut serving) = (self.rotation.clone(), self.serving.clone());
        let own = async {
            loop {
                // An error means that everything is being dropped.
                let one = tokio::select! {
                    one = rotation.changed() => one,
                    one = serving.changed() => one,
                };
                match one {
                    Ok(()) => changed.notify_one(),
                    Err(_) => return,
                }
            }
        };
        tokio::select! {
            () = own => {}
            () = changes::tell(&self.configurations, &Watched::Name(CONFIGURATION), &changed) => {}
            () = changes::follow(self, &changed, leadership) => {}
        }
    }

    /// The leader's part: the configuration as it is then, if it had to be written.
    async fn write(
        &self,
        found: &MutatingWebhookConfiguration,
    ) -> anyhow::Result<Option<MutatingWebhookConfiguration>> {
        let rotation = self.rotation.borrow().clone();
        let deadline: Option<Instant> = self.leadership.borrow().deadline();
        let (Some(rotation), Some(deadline)) = (rotation, deadline) else {
            return Ok(None);
        };
        let Some(patch) = patch(found, &rotation.bundle_pem()) else {
            return Ok(None);
        };
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let patch = Patch::Strategic(patch);
        let request = self.configurations.patch(CONFIGURATION, &params, &patch);
        let written = timeout_at(deadline, request).await;
        let written = written.context("the API server does not answer")?;
        let written = written.with_context(|| format!("{CONFIGURATION} cannot be written"))?;
        tracing::info!("MutatingWebhookConfiguration {CONFIGURATION} has the bundle");
        Ok(Some(written))
    }

    fn is_believed(&self, configuration: &MutatingWebhookConfiguration) -> bool {
        let serving = self.serving.borrow().clone();
        let Some(serving) = serving else {
            return false;
        };
        let now = self.clock.now();
        bundles(configuration)
            .all(|(_, bundle)| bundle.is_some_and(|b| verifies(&serving, &b.0, &self.name, now)))
    }
}

/// Each webhook's name and bundle.
fn bundles(
    configuration: &MutatingWebhookConfiguration,
) -> impl Iterator<Item = (&str, Option<&ByteString>)> {
    let webhooks = configuration.webhooks.iter().flatten();
    webhooks.map(|webhook| {
        (
            webhook.name.as_str(),
            webhook.client_config.ca_bundle.as_ref(),
        )
    })
}

/// What gives every webhook this bundle, if one has another; only of the version that was read.
fn patch(configuration: &MutatingWebhookConfiguration, bundle: &str) -> Option<Value> {
    let differs = |(_, found): &(&str, Option<&ByteString>)| {
        found.is_none_or(|found| found.0 != bundle.as_bytes())
    };
    let bundle_of = |(name, _): (&str, Option<&ByteString>)| {
        let bundle = ByteString(bundle.as_bytes().to_vec());
        json!({"name": name, "clientConfig": {"caBundle": bundle}})
    };
    let webhooks: Vec<Value> = bundles(configuration)
        .filter(differs)
        .map(bundle_of)
        .collect();
    (!webhooks.is_empty()).then(|| {
        json!({
            "metadata": {"resourceVersion": configuration.metadata.resource_version},
            "webhooks": webhooks,
        })
    })
}

/// Whether a caller who has this bundle and calls by this name takes the certificate.
fn verifies(serving: &CertifiedKey, bundle: &[u8], name: &str, now: SystemTime) -> bool {
    let mut roots = RootCertStore::empty();
    // What cannot be read is nobody's root; the API server skips it, too.
    let readable = CertificateDer::pem_slice_iter(bundle).flatten();
    roots.add_parsable_certificates(readable);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let (Ok(verifier), Ok(name)) = (verifier, ServerName::try_from(name)) else {
        return false;
    };
    let Some((own, rest)) = serving.cert.split_first() else {
        return false;
    };
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    verifier
        .verify_server_cert(own, rest, &name, &[], now)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_certs::SystemClock;

    fn configuration(bundles: [Option<&str>; 2]) -> MutatingWebhookConfiguration {
        let webhook = |(i, bundle): (usize, &Option<&str>)| {
            json!({
                "name": format!("{i}.injector.mesh.weft.dev"),
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "clientConfig": {"caBundle": bundle.map(|b| ByteString(b.into()))},
            })
        };
        let webhooks: Vec<Value> = bundles.iter().enumerate().map(webhook).collect();
        let json = json!({"metadata": {"resourceVersion": "7"}, "webhooks": webhooks});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn only_what_differs_is_written() {
        assert_eq!(patch(&configuration([Some("a"), Some("a")]), "a"), None);
        let patch = patch(&configuration([Some("a"), None]), "a").unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        let webhooks = patch["webhooks"].as_array().unwrap();
        assert_eq!(webhooks.len(), 1);
        assert_eq!(webhooks[0]["name"], "1.injector.mesh.weft.dev");
    }

    #[test]
    fn a_certificate_is_believed_by_its_cas_bundle_and_name_alone() {
        let now = SystemClock.now();
        let [own, other] = [(); 2].map(|()| ServingRotation::begin(now).unwrap());
        let name = "weft-control-plane.weft-system.svc";
        let serving = own.issue(&[name.to_owned()], now).unwrap().key;
        let believed = |bundle: &str, name| verifies(&serving, bundle.as_bytes(), name, now);
        let both = format!("{}{}", other.bundle_pem(), own.bundle_pem());
        assert!(believed(&own.bundle_pem(), name) && believed(&both, name));
        assert!(!believed(&other.bundle_pem(), name));
        assert!(!believed("", name) && !believed("hello", name));
        assert!(!believed(&own.bundle_pem(), "weft.svc"));
    }
}
