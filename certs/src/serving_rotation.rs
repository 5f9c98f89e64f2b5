//! The webhook's CA and its replacement in time: announced, then signing, then alone.
//!
//! Callers read the bundle from an object that somebody has to write. So a new CA is in the bundle
//! for a while before it signs, and an old one until nothing it signed is served any more. When each
//! step is due follows from the certificates themselves: every replica comes to the same result, and
//! nothing else needs to be stored.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::chain::pem_block;
use crate::serving::{ServingAuthority, ServingCertificate, ServingError};

/// Life of the CA; a new one is announced when a third of it is left.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Life of a serving certificate.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long a new CA is in the bundle before it signs.
const ANNOUNCED: Duration = Duration::from_secs(24 * 3600);

/// Keys of the Secret.
const SIGNING: (&str, &str) = ("ca.crt", "ca.key");
const NEXT: (&str, &str) = ("next.crt", "next.key");
const PREVIOUS: &str = "previous.crt";

/// The entry of the Secret that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{entry}: {reason}")]
pub struct SecretError {
    /// Its key.
    pub entry: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// The CA that signs, and at times one beside it.
#[derive(Debug)]
pub struct ServingRotation {
    signing: ServingAuthority,
    next: Option<ServingAuthority>,
    previous: Option<CertificateDer<'static>>,
}

impl ServingRotation {
    /// The first CA.
    ///
    /// # Errors
    /// It could not be made.
    pub fn begin(now: SystemTime) -> Result<Self, ServingError> {
        Ok(Self {
            signing: ServingAuthority::generate(now, AUTHORITY_LIFETIME)?,
            next: None,
            previous: None,
        })
    }

    /// What is due now; none: nothing. Write the result before it is used.
    ///
    /// # Errors
    /// A new CA could not be made.
    pub fn advance(&self, now: SystemTime) -> Result<Option<Self>, ServingError> {
        let next = match &self.next {
            // Nothing is served any more that could be broken.
            _ if now >= self.signing.not_after() => Self::begin(now)?,
            Some(next) if now >= next.not_before() + ANNOUNCED => Self {
                signing: copy(next)?,
                next: None,
                previous: Some(self.signing.certificate().clone()),
            },
            Some(_) => return Ok(None),
            None if self.previous.is_some() && now >= self.alone_from() => Self {
                signing: copy(&self.signing)?,
                next: None,
                previous: None,
            },
            None if now + AUTHORITY_LIFETIME / 3 >= self.signing.not_after() => Self {
                signing: copy(&self.signing)?,
                next: Some(ServingAuthority::generate(now, AUTHORITY_LIFETIME)?),
                previous: self.previous.clone(),
            },
            None => return Ok(None),
        };
        Ok(Some(next))
    }

    /// When nothing is served any more that the CA before the present one has signed.
    fn alone_from(&self) -> SystemTime {
        self.signing.not_before() + ANNOUNCED + CERTIFICATE_LIFETIME
    }

    /// A serving certificate, renewed as the schedule of its validity says.
    ///
    /// # Errors
    /// See [`ServingAuthority::issue`].
    pub fn issue(
        &self,
        names: &[String],
        now: SystemTime,
    ) -> Result<ServingCertificate, ServingError> {
        self.signing.issue(names, now, CERTIFICATE_LIFETIME)
    }

    /// What callers are to trust, PEM.
    pub fn bundle_pem(&self) -> String {
        let next = self.next.as_ref().map(ServingAuthority::certificate_pem);
        let previous = self.previous.as_ref().map(pem_block);
        let all = [Some(self.signing.certificate_pem()), next, previous];
        all.into_iter().flatten().collect()
    }

    /// Whether both have the same CA sign.
    pub fn signs_as(&self, other: &Self) -> bool {
        self.signing.certificate() == other.signing.certificate()
    }

    /// The data of the Secret.
    pub fn to_secret(&self) -> BTreeMap<String, Vec<u8>> {
        let mut data = BTreeMap::new();
        let mut put = |entry: &str, pem: String| data.insert(entry.to_owned(), pem.into_bytes());
        put(SIGNING.0, self.signing.certificate_pem());
        put(SIGNING.1, self.signing.key_pem());
        if let Some(next) = &self.next {
            put(NEXT.0, next.certificate_pem());
            put(NEXT.1, next.key_pem());
        }
        if let Some(previous) = &self.previous {
            put(PREVIOUS, pem_block(previous));
        }
        data
    }

    /// Reads the data of the Secret back.
    ///
    /// # Errors
    /// [`SecretError`]: the entry that is missing or damaged.
    pub fn from_secret(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, SecretError> {
        let signing = authority(data, SIGNING)?;
        let next = data.contains_key(NEXT.0).then(|| authority(data, NEXT));
        let previous = data.contains_key(PREVIOUS).then(|| {
            let pem = text(data, PREVIOUS)?;
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| SecretError {
                entry: PREVIOUS,
                reason: error.to_string(),
            })
        });
        Ok(Self {
            signing,
            next: next.transpose()?,
            previous: previous.transpose()?,
        })
    }
}

fn copy(authority: &ServingAuthority) -> Result<ServingAuthority, ServingError> {
    ServingAuthority::from_pem(&authority.certificate_pem(), &authority.key_pem())
}

fn authority(
    data: &BTreeMap<String, Vec<u8>>,
    (certificate, key): (&'static str, &'static str),
) -> Result<ServingAuthority, SecretError> {
    ServingAuthority::from_pem(text(data, certificate)?, text(data, key)?).map_err(|error| {
        let entry = match error {
            ServingError::Key(_) => key,
            _ => certificate,
        };
        SecretError {
            entry,
            reason: error.to_string(),
        }
    })
}

fn text<'a>(
    data: &'a BTreeMap<String, Vec<u8>>,
    entry: &'static str,
) -> Result<&'a str, SecretError> {
    let bytes = data.get(entry).ok_or_else(|| SecretError {
        entry,
        reason: "is missing".to_owned(),
    })?;
    std::str::from_utf8(bytes).map_err(|_| SecretError {
        entry,
        reason: "is not text".to_owned(),
    })
}
