//! The workload's certificate: a key that is made here and never leaves, a request for it, the chain that
//! comes back. First contact goes by token, renewal by the certificate in use.

use std::path::Path;
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use weft_certs::{
    ChainError, Identity, IdentityError, IssuedChain, KeyError, PrivateKey, TrustBundle,
};
use weft_identity::{NameError, SpiffeId};
use weft_proto::ca::IssueRequest;
use weft_proto::ca::certificate_service_client::CertificateServiceClient;
use weft_proxy_config::Invalid;

use crate::decode;
use crate::settings::Settings;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    #[error("this pod has no valid name: {0}")]
    Name(#[from] NameError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the token {path} cannot be read: {reason}")]
    Token { path: String, reason: String },
    #[error("there is no certificate to renew by, and no token file is set")]
    NoToken,
    #[error("the control plane refuses a certificate: {} ({:?})", .0.message(), .0.code())]
    Refused(Box<tonic::Status>),
    #[error("the chain that was issued cannot be used: {0}")]
    Chain(#[from] ChainError),
    #[error("the chain that was issued is for {0}")]
    OtherIdentity(SpiffeId),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the trust bundle that came with the certificate cannot be used: {0}")]
    Bundle(Invalid),
}

impl From<tonic::Status> for IssueError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// A certificate and what is trusted by the one who issued it.
pub(crate) struct Issued {
    pub identity: Identity,
    pub bundle: Option<TrustBundle>,
}

/// By what the control plane knows who asks.
#[derive(Debug)]
pub(crate) enum Proof {
    /// The certificate of the connection.
    Certificate,
    /// The token file, always with this key: a join token is bound to the first key that it is shown with, so
    /// that it can be shown again when the answer was lost.
    Token(PrivateKey),
}

/// Asks for a certificate over `channel`, whose peer has been verified.
pub(crate) async fn issue(
    settings: Settings,
    channel: Channel,
    proof: Proof,
) -> Result<Issued, IssueError> {
    let id = settings.identity()?;
    let (key, by_token) = match proof {
        Proof::Certificate => (PrivateKey::generate()?, false),
        Proof::Token(key) => (key, true),
    };
    let csr = key.csr(&id)?;
    let mut request = Request::new(IssueRequest {
        csr: csr.to_vec(),
        namespace: settings.pod.namespace().to_owned(),
        pod: settings.pod.name().to_owned(),
    });
    if by_token {
        let file = settings.token_file.as_deref().ok_or(IssueError::NoToken)?;
        request
            .metadata_mut()
            .insert("authorization", bearer(file).await?);
    }
    let response = CertificateServiceClient::new(channel)
        .issue(request)
        .await?
        .into_inner();
    let chain = response.chain.into_iter().map(CertificateDer::from);
    let chain = IssuedChain::new(chain.collect())?;
    if *chain.id() != id {
        return Err(IssueError::OtherIdentity(chain.id().clone()));
    }
    let bundle = response
        .trust_bundle
        .map(decode::trust_bundle)
        .transpose()
        .map_err(IssueError::Bundle)?;
    Ok(Issued {
        identity: Identity::new(key, chain)?,
        bundle,
    })
}

async fn bearer(file: &Path) -> Result<MetadataValue<Ascii>, IssueError> {
    let fault = |reason: String| IssueError::Token {
        path: file.display().to_string(),
        reason,
    };
    let token = tokio::fs::read_to_string(file)
        .await
        .map_err(|error| fault(error.to_string()))?;
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.trim())
        .parse()
        .map_err(|_| fault("it is not printable text".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether an identity can be shown at all.
pub(crate) fn is_valid(identity: &Identity, now: SystemTime) -> bool {
    now < identity.chain().not_after()
}
