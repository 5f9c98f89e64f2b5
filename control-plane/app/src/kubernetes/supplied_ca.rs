//! An intermediate that the user (or cert-manager) keeps in a Secret: `tls.crt` (the intermediate,
//! then what is above it), `tls.key`, `ca.crt` (the roots). A change of it begins a rotation.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use tokio::time::timeout;
use weft_certs::{AuthorityError, IssuerError, SuppliedIssuer};
use weft_xds::Server;

use super::ca_secret::{CaSecret, NotStored};
use crate::authority::{Authority, ChangeError};
use crate::findings::Finding;

const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";
const ROOTS: &str = "ca.crt";
const PATIENCE: Duration = Duration::from_secs(5);

/// Begins a rotation where the user's intermediate is not the one in use: the leader's business.
/// Whether all is as it should be.
pub(super) async fn follow(secret: &CaSecret, authority: &Authority, server: &Server) -> bool {
    if secret.supplied().is_none() {
        return true;
    }
    let supplied = match read(secret, authority).await {
        Ok(Some(supplied)) => supplied,
        Ok(None) => return false,
        Err(error) => {
            tracing::warn!("supplied CA: {error}");
            return false;
        }
    };
    match authority.begin_rotation_to(&supplied, server).await {
        Ok(entered) => {
            if let Some(phase) = entered {
                tracing::info!("root rotation to the supplied CA: {phase}");
            }
            note_issuer(secret, authority, None);
            true
        }
        Err(ChangeError::Authority(AuthorityError::Issuer(error))) => {
            note_issuer(secret, authority, Some(&error));
            false
        }
        Err(error) => {
            tracing::info!("the supplied CA has to wait: {error}");
            true
        }
    }
}

/// Reads the Secret. None: something is missing in it, which is noted.
pub(super) async fn read(
    secret: &CaSecret,
    authority: &Authority,
) -> Result<Option<SuppliedIssuer>, NotStored> {
    let Some(name) = secret.supplied() else {
        return Ok(None);
    };
    let found = timeout(PATIENCE, secret.api().get_opt(name)).await;
    let found = found
        .map_err(|_| NotStored::Request("the API server did not answer in time".to_owned()))?
        .map_err(|error| NotStored::Request(error.to_string()))?;
    match found.as_ref().map(of_secret) {
        Some(Ok(supplied)) => Ok(Some(supplied)),
        Some(Err((key, why))) => {
            note(secret, authority, Some((key, why.to_owned())));
            Ok(None)
        }
        None => {
            note(
                secret,
                authority,
                Some(("", "there is no such Secret".to_owned())),
            );
            Ok(None)
        }
    }
}

/// The key that is at fault, and why.
fn of_secret(secret: &Secret) -> Result<SuppliedIssuer, (&'static str, &'static str)> {
    let text = |key: &'static str| {
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        let ByteString(bytes) = data.ok_or((key, "there is no such key"))?;
        String::from_utf8(bytes.clone()).map_err(|_| (key, "it is not text"))
    };
    Ok(SuppliedIssuer {
        chain_pem: text(CHAIN)?,
        key_pem: text(KEY)?,
        roots_pem: text(ROOTS)?,
    })
}

/// Notes why the issuer cannot be used, or that it can.
pub(super) fn note_issuer(secret: &CaSecret, authority: &Authority, error: Option<&IssuerError>) {
    let fault = error.map(|error| {
        let key = match error {
            IssuerError::Key(_) => KEY,
            IssuerError::Roots(_) => ROOTS,
            _ => CHAIN,
        };
        (key, error.to_string())
    });
    note(secret, authority, fault);
}

fn note(secret: &CaSecret, authority: &Authority, fault: Option<(&str, String)>) {
    let name = secret.supplied().unwrap_or_default();
    let finding = fault.map(|(key, why)| {
        let field = if key.is_empty() {
            String::new()
        } else {
            format!("data[{key}]")
        };
        let message = format!("{why}; the CA in use stays as it is");
        let object = ("Secret", secret.namespace(), name);
        Finding::of_own_object(object, &field, "UnusableAuthority", message)
    });
    authority.note(name, finding);
}
