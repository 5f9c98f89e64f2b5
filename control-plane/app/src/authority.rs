//! The certificate authority in use: issues, and publishes its trust anchors everywhere at once.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use weft_certs::{
    AuthorityError, AuthoritySettings, BundleHash, CertificateAuthority, Clock, Confirmed,
    IssueError, IssuedChain, IssuerExpiry, PUBLIC, RotationPhase, TrustBundle, TrustStore,
    VerifiedCsr, write_atomic,
};
use weft_identity::PodRef;
use weft_proto::mesh;
use weft_xds::Server;

/// The file in the state directory that new pods get their first trust anchors from.
const BUNDLE_FILE: &str = "trust-bundle.pem";

pub(crate) struct Authority {
    ca: Mutex<CertificateAuthority>,
    /// Pods that have a certificate of the present issuer, as far as this process has issued it.
    renewed: Mutex<HashSet<PodRef>>,
    trust: Arc<TrustStore>,
    bundle_file: PathBuf,
    leaf_lifetime: Duration,
    clock: Arc<dyn Clock>,
    issued: AtomicU64,
    refused: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Authority {
    pub fn open(
        state: &Path,
        settings: AuthoritySettings,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let leaf_lifetime = settings.leaf_lifetime;
        let ca = CertificateAuthority::open(state, settings, clock.now())
            .with_context(|| format!("cannot open the CA in {}", state.display()))?;
        let authority = Self {
            trust: Arc::new(TrustStore::new(ca.bundle())),
            ca: Mutex::new(ca),
            renewed: Mutex::default(),
            bundle_file: state.join(BUNDLE_FILE),
            leaf_lifetime,
            clock,
            issued: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        };
        authority.write_bundle(&authority.bundle())?;
        Ok(authority)
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// What this process itself trusts.
    pub fn trust(&self) -> &Arc<TrustStore> {
        &self.trust
    }

    pub fn bundle(&self) -> TrustBundle {
        lock(&self.ca).bundle()
    }

    pub fn bundle_hash(&self) -> BundleHash {
        self.bundle().hash()
    }

    pub fn phase(&self) -> RotationPhase {
        lock(&self.ca).phase()
    }

    pub fn expiry(&self) -> IssuerExpiry {
        lock(&self.ca).expiry(self.clock.now())
    }

    /// Issues a leaf of the usual lifetime.
    pub fn issue(&self, request: &VerifiedCsr) -> Result<IssuedChain, IssueError> {
        lock(&self.ca).issue(request, self.leaf_lifetime, self.clock.now())
    }

    /// As [`Authority::issue`], and remembers that the pod has it.
    pub fn issue_to(&self, pod: &PodRef, request: &VerifiedCsr) -> Result<IssuedChain, IssueError> {
        // One lock over both: a switch of the issuer comes before or after.
        let ca = lock(&self.ca);
        let chain = ca.issue(request, self.leaf_lifetime, self.clock.now())?;
        lock(&self.renewed).insert(pod.clone());
        self.issued.fetch_add(1, Ordering::Relaxed);
        Ok(chain)
    }

    /// Counts a request that was refused.
    pub fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Certificates issued to pods, and requests refused, since the start.
    pub fn counts(&self) -> (u64, u64) {
        let issued = self.issued.load(Ordering::Relaxed);
        (issued, self.refused.load(Ordering::Relaxed))
    }

    /// Whether the pod is known to have a certificate of the present issuer.
    pub fn has_renewed(&self, pod: &PodRef) -> bool {
        lock(&self.renewed).contains(pod)
    }

    /// Begins to rotate to a new root.
    pub fn begin_rotation(&self, server: &Server) -> Result<RotationPhase, AuthorityError> {
        let mut ca = lock(&self.ca);
        ca.begin_rotation(self.clock.now())?;
        self.publish(&ca, server);
        Ok(ca.phase())
    }

    /// Goes on with a rotation if it may. Returns the phase entered.
    pub fn advance_rotation(
        &self,
        confirmed: Confirmed,
        server: &Server,
    ) -> Result<Option<RotationPhase>, AuthorityError> {
        let mut ca = lock(&self.ca);
        let entered = ca.advance_rotation(confirmed, self.clock.now())?;
        if matches!(entered, Some(RotationPhase::Switched { .. })) {
            lock(&self.renewed).clear();
        }
        if entered.is_some() {
            self.publish(&ca, server);
        }
        Ok(entered)
    }

    /// Puts the present anchors in force here, at the proxies and for new pods. The CA stays
    /// locked: whoever sees its new phase finds the new anchors published.
    fn publish(&self, ca: &CertificateAuthority, server: &Server) {
        let bundle = ca.bundle();
        server.publish_trust(wire_bundle(&bundle));
        if let Err(error) = self.write_bundle(&bundle) {
            tracing::error!("new pods get outdated trust anchors: {error:#}");
        }
        self.trust.replace(bundle);
    }

    fn write_bundle(&self, bundle: &TrustBundle) -> anyhow::Result<()> {
        let pem = bundle.to_pem();
        write_atomic(&self.bundle_file, pem.as_bytes(), PUBLIC)
            .with_context(|| format!("cannot write {}", self.bundle_file.display()))
    }
}

/// The anchors as they go over the wire.
pub(crate) fn wire_bundle(bundle: &TrustBundle) -> mesh::TrustBundle {
    let trust_domains = bundle.iter().map(|(domain, roots)| mesh::TrustDomain {
        name: domain.to_string(),
        roots: roots.iter().map(|root| root.as_ref().to_vec()).collect(),
    });
    mesh::TrustBundle {
        trust_domains: trust_domains.collect(),
    }
}
