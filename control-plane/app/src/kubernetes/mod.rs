//! What talks to Kubernetes but does not read the world, which is `weft-source`'s business.
//!
//! - [`cluster`]: all of it together.
//! - [`lease`]: which of the replicas writes.
//! - [`ca_secret`], [`ca_keeper`], [`supplied_ca`]: the CA's state in a Secret.
//! - [`trust_config_map`]: the trust anchors in every namespace of the mesh.
//! - [`status`]: what objects are told about themselves.
//! - [`heard`]: what the other replicas heard of proxies.
//! - [`token_review`]: who shows a service account token.
//! - `webhook`: injection.
//! - [`changes`]: being told when one of these objects changes.

pub(crate) mod ca_keeper;
pub(crate) mod ca_secret;
pub(crate) mod changes;
pub(crate) mod cluster;
pub(crate) mod heard;
pub(crate) mod lease;
pub(crate) mod status;
pub(crate) mod supplied_ca;
pub(crate) mod token_review;
pub(crate) mod trust_config_map;
pub mod webhook;

use std::collections::BTreeMap;

use anyhow::Context;
use kube::{Client, Config};

/// Names the control plane in the fields that it owns.
pub(crate) const FIELD_MANAGER: &str = "weft-control-plane";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// A client of the API server that KUBECONFIG names, or that this pod runs by.
pub(crate) async fn client() -> anyhow::Result<Client> {
    let config = Config::infer()
        .await
        .context("no way to the API server: no kubeconfig, and no service account of a pod")?;
    tracing::info!(url = %config.cluster_url, "the API server");
    Client::try_from(config).context("cannot speak to the API server")
}

/// Tells of a failure that lasts once, and of its end.
#[derive(Debug, Default)]
pub(crate) struct Outage(bool);

impl Outage {
    /// Notes how an attempt at `what` went.
    pub fn note<T, E: std::fmt::Display>(&mut self, what: &str, attempt: &Result<T, E>) {
        match attempt {
            Ok(_) if self.0 => tracing::info!("{what}: it works again"),
            Err(error) if !self.0 => tracing::warn!("{what}: {error:#}"),
            Ok(_) | Err(_) => {}
        }
        self.0 = attempt.is_err();
    }
}

/// The labels of what the control plane makes.
pub(crate) fn labels() -> BTreeMap<String, String> {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    BTreeMap::from([
        label(MANAGED_BY, FIELD_MANAGER),
        label("app.kubernetes.io/part-of", "weft"),
    ])
}
