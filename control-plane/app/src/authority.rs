//! The certificate authority in use: issues, and publishes its trust anchors everywhere at once.
//!
//! What changes it is stored first and put in force then, one change at a time. Where it is stored
//! is its [`Store`]'s business. In a cluster there may be none in force for a while: before the
//! first leader has made it, or for good when its Secret is lost.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use anyhow::Context;
use tokio::sync::watch;
use weft_certs::{
    AuthorityDirectory, AuthorityError, AuthoritySettings, BundleHash, CertificateAuthority, Clock,
    Confirmed, IssueError, IssuedChain, IssuerExpiry, PUBLIC, RotationPhase, SuppliedIssuer,
    TrustBundle, TrustStore, VerifiedCsr, write_atomic,
};
use weft_identity::PodRef;
use weft_proto::mesh;
use weft_xds::Server;

use crate::findings::Finding;
use crate::kubernetes::ca_secret::{CaSecret, NotStored};

/// The file in the state directory that new pods get their first trust anchors from.
const BUNDLE_FILE: &str = "trust-bundle.pem";

/// Why the authority stays as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// There is nothing to change.
    #[error("there is no certificate authority at hand: see the diagnostics")]
    NoAuthority,
    /// The user keeps the issuer.
    #[error("the CA is the one of Secret {0}: put another one there, and a rotation to it begins")]
    Supplied(String),
    /// The change itself, or a folder that does not take it.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The Secret does not take it.
    #[error(transparent)]
    Secret(#[from] NotStored),
}

/// Why no certificate is issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotIssued {
    #[error("there is no certificate authority at hand; issuing has stopped until it is back")]
    NoAuthority,
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// What proxies are waited for.
pub(crate) struct RotationStep {
    /// They are to take the new anchors; else, to get certificates of the new issuer.
    pub is_announced: bool,
    pub name: String,
}

/// Where the authority's state lies.
pub(crate) enum Store {
    Folder(AuthorityDirectory),
    Secret(Arc<CaSecret>),
}

pub(crate) struct Authority {
    settings: AuthoritySettings,
    store: Store,
    /// Held from reading what is in force until the next is: one change at a time.
    changing: tokio::sync::Mutex<()>,
    ca: Mutex<Option<CertificateAuthority>>,
    /// Pods that have a certificate of the present issuer, as far as this process has issued it.
    renewed: Mutex<HashSet<PodRef>>,
    trust: Arc<TrustStore>,
    /// Counts what was put in force.
    changed: watch::Sender<u64>,
    bundle_file: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    issued: AtomicU64,
    refused: AtomicU64,
    /// What is wrong with where its state lies, by object and key of it.
    findings: Mutex<BTreeMap<String, Finding>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Authority {
    /// The authority of a folder.
    pub fn open(
        state: &Path,
        settings: AuthoritySettings,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let directory = AuthorityDirectory::new(state);
        let ca = directory
            .open(settings.clone(), clock.now())
            .with_context(|| format!("cannot open the CA in {}", state.display()))?;
        let mut authority = Self::new(settings, Store::Folder(directory), clock);
        authority.bundle_file = Some(state.join(BUNDLE_FILE));
        authority.write_bundle(&ca.bundle())?;
        authority.trust.replace(ca.bundle());
        *lock(&authority.ca) = Some(ca);
        Ok(authority)
    }

    /// The authority of a cluster; [`Authority::put_in_force`] brings it once its Secret is read.
    pub fn of_secret(
        settings: AuthoritySettings,
        secret: Arc<CaSecret>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::new(settings, Store::Secret(secret), clock)
    }

    fn new(settings: AuthoritySettings, store: Store, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            store,
            changing: tokio::sync::Mutex::default(),
            ca: Mutex::new(None),
            renewed: Mutex::default(),
            trust: Arc::new(TrustStore::new(TrustBundle::default())),
            changed: watch::Sender::new(0),
            bundle_file: None,
            clock,
            issued: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            findings: Mutex::default(),
        }
    }

    pub fn settings(&self) -> &AuthoritySettings {
        &self.settings
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// What this process itself trusts.
    pub fn trust(&self) -> &Arc<TrustStore> {
        &self.trust
    }

    /// Changes whenever another state of the authority is in force.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What is in force.
    pub fn in_force(&self) -> Option<CertificateAuthority> {
        lock(&self.ca).clone()
    }

    /// Empty while there is no authority.
    pub fn bundle(&self) -> TrustBundle {
        let ca = lock(&self.ca);
        ca.as_ref()
            .map_or_else(TrustBundle::default, CertificateAuthority::bundle)
    }

    pub fn bundle_hash(&self) -> BundleHash {
        self.bundle().hash()
    }

    /// None while there is no authority.
    pub fn phase(&self) -> Option<RotationPhase> {
        lock(&self.ca).as_ref().map(CertificateAuthority::phase)
    }

    /// The step of a rotation that is under way; no other, of this rotation or another, is named so.
    pub fn rotation_step(&self) -> Option<RotationStep> {
        let ca = lock(&self.ca);
        let ca = ca.as_ref()?;
        let (is_announced, until) = match ca.phase() {
            RotationPhase::Stable => return None,
            RotationPhase::Announced { switch_by } => (true, switch_by),
            RotationPhase::Switched { drop_by } => (false, drop_by),
        };
        let until = until.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (phase, hash) = (ca.phase(), ca.bundle().hash());
        Some(RotationStep {
            is_announced,
            name: format!("{phase} until {} with {hash}", until.as_secs()),
        })
    }

    /// None while there is no authority.
    pub fn expiry(&self) -> Option<IssuerExpiry> {
        let ca = lock(&self.ca);
        ca.as_ref().map(|ca| ca.expiry(self.clock.now()))
    }

    /// Whether there is an authority and its issuer has not expired.
    pub fn is_issuing(&self) -> bool {
        self.expiry().is_some_and(|expiry| !expiry.left.is_zero())
    }

    /// Whether a change could be stored by this process now: of several replicas, one writes.
    pub fn may_change(&self) -> bool {
        match &self.store {
            Store::Folder(_) => true,
            Store::Secret(secret) => secret.may_write(),
        }
    }

    /// Issues a leaf of the usual lifetime.
    pub fn issue(&self, request: &VerifiedCsr) -> Result<IssuedChain, NotIssued> {
        self.issue_by(lock(&self.ca).as_ref(), request)
    }

    /// As [`Authority::issue`], and remembers that the pod has it.
    pub fn issue_to(&self, pod: &PodRef, request: &VerifiedCsr) -> Result<IssuedChain, NotIssued> {
        // One lock over both: a switch of the issuer comes before or after.
        let ca = lock(&self.ca);
        let chain = self.issue_by(ca.as_ref(), request)?;
        lock(&self.renewed).insert(pod.clone());
        self.issued.fetch_add(1, Ordering::Relaxed);
        Ok(chain)
    }

    fn issue_by(
        &self,
        ca: Option<&CertificateAuthority>,
        request: &VerifiedCsr,
    ) -> Result<IssuedChain, NotIssued> {
        let ca = ca.ok_or(NotIssued::NoAuthority)?;
        Ok(ca.issue(request, self.settings.leaf_lifetime, self.clock.now())?)
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

    /// The pods that are known to have one.
    pub fn renewed_pods(&self) -> HashSet<PodRef> {
        lock(&self.renewed).clone()
    }

    /// Begins to rotate to a new root.
    pub async fn begin_rotation(&self, server: &Server) -> Result<RotationPhase, ChangeError> {
        if let Store::Secret(secret) = &self.store
            && let Some(supplied) = secret.supplied()
        {
            return Err(ChangeError::Supplied(supplied.to_owned()));
        }
        let _changing = self.changing.lock().await;
        let present = self.in_force().ok_or(ChangeError::NoAuthority)?;
        let next = present.with_new_root(self.clock.now())?;
        self.enter(next, server).await
    }

    /// Begins to rotate to an issuer that the user supplies, unless it is the one in use. Returns
    /// the phase entered.
    pub async fn begin_rotation_to(
        &self,
        supplied: &SuppliedIssuer,
        server: &Server,
    ) -> Result<Option<RotationPhase>, ChangeError> {
        let _changing = self.changing.lock().await;
        let present = self.in_force().ok_or(ChangeError::NoAuthority)?;
        match present.with_supplied(supplied, self.clock.now())? {
            Some(next) => self.enter(next, server).await.map(Some),
            None => Ok(None),
        }
    }

    /// Goes on with a rotation if it may. Returns the phase entered.
    pub async fn advance_rotation(
        &self,
        confirmed: Confirmed,
        server: &Server,
    ) -> Result<Option<RotationPhase>, ChangeError> {
        let _changing = self.changing.lock().await;
        let present = self.in_force().ok_or(ChangeError::NoAuthority)?;
        match present.advanced(confirmed, self.clock.now()) {
            Some(next) => self.enter(next, server).await.map(Some),
            None => Ok(None),
        }
    }

    /// Stores, then puts in force.
    async fn enter(
        &self,
        next: CertificateAuthority,
        server: &Server,
    ) -> Result<RotationPhase, ChangeError> {
        match &self.store {
            Store::Folder(directory) => directory.save(&next).map_err(AuthorityError::from)?,
            Store::Secret(secret) => secret.save(&next).await?,
        }
        let phase = next.phase();
        self.put_in_force(next, server);
        Ok(phase)
    }

    /// Nothing else changes the authority until the guard is dropped.
    pub async fn changing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Puts what is stored in force here, at the proxies and for new pods. Whoever sees the new
    /// phase finds the new anchors published.
    pub fn put_in_force(&self, next: CertificateAuthority, server: &Server) {
        let mut ca = lock(&self.ca);
        let bundle = next.bundle();
        server.publish_trust(wire_bundle(&bundle));
        if let Err(error) = self.write_bundle(&bundle) {
            tracing::error!("new pods get outdated trust anchors: {error:#}");
        }
        self.trust.replace(bundle);
        if ca.as_ref().is_none_or(|ca| !ca.has_issuer_of(&next)) {
            lock(&self.renewed).clear();
        }
        *ca = Some(next);
        drop(ca);
        self.changed.send_modify(|count| *count += 1);
    }

    fn write_bundle(&self, bundle: &TrustBundle) -> anyhow::Result<()> {
        let Some(file) = &self.bundle_file else {
            return Ok(());
        };
        let pem = bundle.to_pem();
        write_atomic(file, pem.as_bytes(), PUBLIC)
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// What is wrong with where its state lies.
    pub fn findings(&self) -> Vec<Finding> {
        lock(&self.findings).values().cloned().collect()
    }

    /// Notes what is wrong with `about`, or that nothing is any more; logs the difference.
    pub fn note(&self, about: &str, finding: Option<Finding>) {
        let mut findings = lock(&self.findings);
        let before = findings.remove(about);
        if let Some(finding) = finding {
            if before.as_ref() != Some(&finding) {
                tracing::error!("{}", finding.text);
            }
            findings.insert(about.to_owned(), finding);
        } else if let Some(gone) = before {
            tracing::info!("resolved: {}", gone.text);
        }
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
