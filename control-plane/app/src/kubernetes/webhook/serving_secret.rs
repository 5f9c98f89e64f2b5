//! Secret `weft-webhook`: the CA that signs the webhook's certificates. The leader makes it, replaces
//! it in time and repairs it; every replica follows it.
//!
//! Nothing is lost with it, unlike with `weft-ca`: who calls the webhook learns of another CA from
//! the object that has the bundle ([`caller_bundle`](super::caller_bundle)). So one that is missing
//! or cannot be read is simply written anew, from memory if there is one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};
use weft_certs::{Clock, SecretError, ServingRotation};

use crate::kubernetes::changes::{self, Watched};
use crate::kubernetes::lease::Leadership;
use crate::kubernetes::{FIELD_MANAGER, labels};

/// The Secret.
const SECRET: &str = "weft-webhook";
/// For reading it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the Secret holds.
enum Found {
    Absent,
    /// With its resource version.
    Malformed(Option<String>, SecretError),
    /// With its resource version.
    Rotation(Option<String>, Box<ServingRotation>),
}

/// One replica's part in it.
pub(crate) struct ServingSecret {
    secrets: Api<Secret>,
    leadership: watch::Receiver<Leadership>,
    clock: Arc<dyn Clock>,
    /// What was last read or written.
    rotation: watch::Sender<Option<Arc<ServingRotation>>>,
}

impl changes::Reconcile for ServingSecret {
    const WHAT: &str = "webhook CA";

    async fn reconcile(&self) -> anyhow::Result<bool> {
        let found = self.read().await?;
        let Some(deadline) = self.leadership.borrow().deadline() else {
            return Ok(match found {
                Found::Rotation(_, rotation) => {
                    self.adopt(*rotation);
                    true
                }
                // The leader's business.
                Found::Absent | Found::Malformed(..) => false,
            });
        };
        let now = self.clock.now();
        let (version, next) = match found {
            Found::Rotation(version, rotation) => match rotation.advance(now)? {
                Some(next) => (version, next),
                None => {
                    self.adopt(*rotation);
                    return Ok(true);
                }
            },
            Found::Absent => (None, self.anew()?),
            Found::Malformed(version, error) => {
                tracing::warn!("Secret {SECRET}: data[{}]", error);
                (version, self.anew()?)
            }
        };
        self.write(deadline, version, &next).await?;
        tracing::info!("Secret {SECRET} has been written");
        self.adopt(next);
        // What is due next may be due already.
        Ok(false)
    }
}

impl ServingSecret {
    pub fn new(
        client: Client,
        namespace: &str,
        leadership: watch::Receiver<Leadership>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            secrets: Api::namespaced(client, namespace),
            leadership,
            clock,
            rotation: watch::Sender::default(),
        }
    }

    /// What is in force; none until the Secret has been read.
    pub fn rotation(&self) -> watch::Receiver<Option<Arc<ServingRotation>>> {
        self.rotation.subscribe()
    }

    /// Keeps for ever.
    pub async fn keep(&self) {
        let changed = Notify::new();
        let leadership = self.leadership.clone();
        tokio::select! {
            () = changes::tell(&self.secrets, &Watched::Name(SECRET), &changed) => {}
            () = changes::follow(self, &changed, leadership) => {}
        }
    }

    /// What there is in memory, or else a new one.
    fn anew(&self) -> anyhow::Result<ServingRotation> {
        let at_hand = self.rotation.borrow().clone();
        match at_hand {
            Some(at_hand) => Ok(ServingRotation::from_secret(&at_hand.to_secret())?),
            None => Ok(ServingRotation::begin(self.clock.now())?),
        }
    }

    fn adopt(&self, rotation: ServingRotation) {
        self.rotation.send_if_modified(|at_hand| {
            let same = at_hand.as_ref().map(|at_hand| at_hand.to_secret());
            let changed = same.as_ref() != Some(&rotation.to_secret());
            if changed {
                *at_hand = Some(Arc::new(rotation));
            }
            changed
        });
    }

    async fn read(&self) -> anyhow::Result<Found> {
        let secret = timeout(PATIENCE, self.secrets.get_opt(SECRET)).await;
        let secret = secret.context("the API server does not answer")??;
        let Some(secret) = secret else {
            return Ok(Found::Absent);
        };
        let version = secret.metadata.resource_version;
        let data = secret.data.unwrap_or_default().into_iter();
        let data: BTreeMap<String, Vec<u8>> = data.map(|(key, value)| (key, value.0)).collect();
        Ok(match ServingRotation::from_secret(&data) {
            Ok(rotation) => Found::Rotation(version, Box::new(rotation)),
            Err(error) => Found::Malformed(version, error),
        })
    }

    /// Replaces what was read at this version; without one, makes the Secret.
    async fn write(
        &self,
        deadline: Instant,
        version: Option<String>,
        rotation: &ServingRotation,
    ) -> anyhow::Result<()> {
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        let data = rotation.to_secret().into_iter();
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(SECRET.into()),
                labels: Some(labels()),
                resource_version: version.clone(),
                ..ObjectMeta::default()
            },
            data: Some(data.map(|(key, value)| (key, ByteString(value))).collect()),
            ..Secret::default()
        };
        let written = async {
            match version {
                Some(_) => self.secrets.replace(SECRET, &params, &secret).await,
                None => self.secrets.create(&params, &secret).await,
            }
        };
        let written: Result<Secret, Error> = timeout_at(deadline, written)
            .await
            .context("the API server does not answer")?;
        written.with_context(|| format!("Secret {SECRET} cannot be written"))?;
        Ok(())
    }
}
