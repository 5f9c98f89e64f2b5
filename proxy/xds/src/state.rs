//! What outlives the process, as one: identity, trust bundle, cached resources. Nothing that goes wrong
//! here stops the proxy; it is logged, and the proxy starts, or goes on, as one without a state directory.

use std::fmt::Display;
use std::path::Path;

use weft_certs::{Identity, IdentityStore, PrivateKey, TrustBundle};
use weft_identity::{PodRef, SpiffeId, TrustDomain};

use crate::cache::Cache;
use crate::resource::Active;

/// The state directory, if there is one that can be used.
#[derive(Debug)]
pub(crate) struct State(Option<(IdentityStore, Cache)>);

impl State {
    pub fn new(directory: Option<&Path>, pod: &PodRef) -> Self {
        Self(directory.and_then(|directory| {
            let cache = logged(
                "set up the state directory",
                Cache::new(directory, pod.clone()),
            )?;
            Some((IdentityStore::new(directory), cache))
        }))
    }

    /// The saved identity, if it is that of `id`.
    pub fn identity(&self, id: &SpiffeId) -> Option<Identity> {
        let (identities, _) = self.0.as_ref()?;
        let identity = logged("read the saved identity", identities.load())??;
        if identity.chain().id() == id {
            return Some(identity);
        }
        tracing::warn!(saved = %identity.chain().id(), expected = %id, "the saved identity is another one's");
        None
    }

    pub fn save_identity(&self, identity: &Identity) {
        if let Some((identities, _)) = &self.0 {
            logged("save the identity", identities.save(identity));
        }
    }

    /// The key of a first request that was not answered.
    pub fn first_key(&self) -> Option<PrivateKey> {
        let (identities, _) = self.0.as_ref()?;
        logged(
            "read the key of the first request",
            identities.load_first_key(),
        )?
    }

    pub fn save_first_key(&self, key: &PrivateKey) {
        if let Some((identities, _)) = &self.0 {
            logged(
                "save the key of the first request",
                identities.save_first_key(key),
            );
        }
    }

    pub fn bundle(&self, domain: &TrustDomain) -> Option<TrustBundle> {
        let (identities, _) = self.0.as_ref()?;
        logged(
            "read the saved trust bundle",
            identities.load_bundle(domain),
        )?
    }

    pub fn save_bundle(&self, bundle: &TrustBundle) {
        if let Some((identities, _)) = &self.0 {
            logged("save the trust bundle", identities.save_bundle(bundle));
        }
    }

    pub fn resources(&self) -> Vec<Active> {
        let cached = self
            .0
            .as_ref()
            .and_then(|(_, cache)| logged("read the cached configuration", cache.load()));
        cached.unwrap_or_default()
    }

    pub fn save_resources(&self, resources: Vec<Active>) {
        if let Some((_, cache)) = &self.0 {
            logged("save the configuration", cache.save(resources));
        }
    }
}

fn logged<T, E: Display>(what: &str, result: Result<T, E>) -> Option<T> {
    result
        .map_err(|error| tracing::warn!(%error, "cannot {what}"))
        .ok()
}
