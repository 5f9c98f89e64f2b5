//! What the stream client is told by its process.

use std::path::PathBuf;

use weft_identity::{NameError, PodRef, SpiffeId, TrustDomain};

/// Who this proxy is and where its control plane is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `host:port` of the control plane.
    pub control_plane: String,
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// The pod this proxy belongs to.
    pub pod: PodRef,
    /// The pod's service account.
    pub service_account: String,
    /// PEM file with the roots that vouch for the control plane on first contact.
    pub trust_bundle_file: PathBuf,
    /// File with the token that proves who this pod is on first contact; read when it is needed.
    pub token_file: Option<PathBuf>,
    /// Directory (0700) for key, certificate, bundle and cached configuration; None: nothing outlives the
    /// process.
    pub state_dir: Option<PathBuf>,
}

impl Settings {
    /// The identity this pod has.
    ///
    /// # Errors
    /// The service account's name is none.
    pub fn identity(&self) -> Result<SpiffeId, NameError> {
        SpiffeId::new(
            &self.trust_domain,
            self.pod.namespace(),
            &self.service_account,
        )
    }

    /// The identity its control plane must have.
    pub fn control_plane_identity(&self) -> SpiffeId {
        SpiffeId::control_plane(&self.trust_domain)
    }
}
