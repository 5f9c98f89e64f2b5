//! Keys, certificates and trust: everything about X.509 that Weft does.
//!
//! Owns making keys and requests ([`PrivateKey`]), checking requests ([`Csr`]), the certificate
//! authority with its root rotation ([`CertificateAuthority`]), trust bundles, the rustls verifiers
//! and configurations of mesh hops ([`MeshTls`]), the renewal schedule and the files a workload's
//! identity lives in. It does not decide who may have which certificate, and moves nothing over
//! the network. Time is always a parameter or a [`Clock`].
//!
//! A proxy's way through it: [`IdentityStore::load`] or [`PrivateKey::generate`] →
//! [`PrivateKey::csr`] → (network) → [`IssuedChain`] → [`Identity::new`] →
//! [`WorkloadIdentity::set`]; [`TrustStore::replace`] on every bundle; [`MeshTls`] over both.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod authority;
mod authority_directory;
mod bundle;
mod chain;
mod clock;
mod csr;
mod durable_file;
mod identity_store;
mod issuer;
mod key;
mod leaf;
mod peer_name;
mod root_rotation;
mod saved;
mod schedule;
mod serving;
mod serving_rotation;
mod sessions;
mod tls;
mod trust;
mod verifier;
mod workload;

#[cfg(test)]
mod tests;

pub use authority::{
    AuthorityError, AuthoritySettings, CertificateAuthority, IssueError, IssuerExpiry,
};
pub use authority_directory::{AuthorityDirectory, StateError};
pub use bundle::{BundleError, BundleHash, TrustBundle};
pub use chain::{ChainError, IssuedChain};
pub use clock::{Clock, ManualClock, SystemClock};
pub use csr::{Csr, CsrError, VerifiedCsr};
pub use durable_file::{PRIVATE, PUBLIC, write_atomic};
pub use identity_store::{IdentityStore, StoreError};
pub use issuer::{IssuerError, SuppliedIssuer};
pub use key::{KeyError, PrivateKey};
pub use leaf::{Leaf, LeafError, Serial, peer_id};
pub use peer_name::peer_name;
pub use root_rotation::{Confirmed, RotationError, RotationPhase};
pub use saved::Damage;
pub use schedule::RotationSchedule;
pub use serving::{ServingAuthority, ServingCertificate, ServingError};
pub use serving_rotation::{SecretError, ServingRotation};
pub use tls::{ClientAuth, KeyExchange, MeshTls};
pub use trust::{PeerError, PeerRole, Trust, TrustStore};
pub use verifier::{ClientVerifier, ServerVerifier};
pub use workload::{Identity, IdentityError, WorkloadIdentity};
