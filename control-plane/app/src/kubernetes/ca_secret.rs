//! The CA's state in Secret `weft-ca`, key `ca.json`: the same bytes as the file of a folder mesh.
//!
//! Only the leader replaces it, and only what it has read: a write names the resource version it
//! rests on. When to read, make or restore it is [`ca_keeper`](super::ca_keeper)'s business.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use weft_certs::{AuthoritySettings, CertificateAuthority};

use super::lease::{LeaderLease, Leadership};
use super::trust_config_map::TRUST;
use super::{FIELD_MANAGER, labels};

/// The Secret.
pub(crate) const SECRET: &str = "weft-ca";
const KEY: &str = "ca.json";
/// On the Lease: there has been a CA here.
const MARK: &str = "mesh.weft.dev/ca-created";
/// For requests that do not depend on leading.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a new state is not stored. It is then not in force either.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStored {
    /// Another replica writes.
    #[error("{}", following(.leader.as_deref()))]
    Following {
        /// The pod of the leader.
        leader: Option<Arc<str>>,
    },
    /// What is stored could not be read, so it must not be overwritten.
    #[error(
        "the Secret {SECRET} is missing or cannot be read: see the diagnostics; deleting a malformed one lets it be restored"
    )]
    Unreadable,
    /// The API server.
    #[error("the Secret {SECRET} could not be written: {0}")]
    Request(String),
}

fn following(leader: Option<&str>) -> String {
    match leader {
        Some(leader) => format!("this replica does not lead: ask the leader, pod {leader}"),
        None => "no replica leads at present; try again shortly".to_owned(),
    }
}

/// What the Secret holds.
pub(crate) enum Found {
    Absent,
    /// The field, and what is wrong with it.
    Malformed(String, String),
    Authority(Box<CertificateAuthority>),
}

pub(crate) struct CaSecret {
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
    lease: Arc<LeaderLease>,
    leadership: watch::Receiver<Leadership>,
    namespace: String,
    /// The Secret with an intermediate that the user supplies.
    supplied: Option<String>,
    /// The resource version of the state that was last read or written; none while there is none
    /// that could be read.
    version: Mutex<Option<String>>,
}

impl CaSecret {
    pub fn new(
        client: Client,
        namespace: &str,
        supplied: Option<String>,
        lease: Arc<LeaderLease>,
    ) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            config_maps: Api::namespaced(client, namespace),
            leadership: lease.leadership(),
            lease,
            namespace: namespace.to_owned(),
            supplied,
            version: Mutex::default(),
        }
    }

    pub fn api(&self) -> &Api<Secret> {
        &self.secrets
    }

    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name of the Secret with the user's own intermediate.
    pub fn supplied(&self) -> Option<&str> {
        self.supplied.as_deref()
    }

    /// Whether a write could be begun now.
    pub fn may_write(&self) -> bool {
        self.leadership.borrow().leads()
    }

    /// Reads the Secret.
    pub async fn read(&self, settings: &AuthoritySettings) -> Result<Found, NotStored> {
        let request = self.secrets.get_opt(SECRET);
        let secret = bounded(Instant::now() + PATIENCE, request).await?;
        let Some(secret) = secret else {
            self.hold(None);
            return Ok(Found::Absent);
        };
        let field = format!("data[{KEY}]");
        let Some(ByteString(bytes)) = secret.data.and_then(|mut data| data.remove(KEY)) else {
            self.hold(None);
            return Ok(Found::Malformed(field, "there is no such key".to_owned()));
        };
        match CertificateAuthority::from_bytes(settings.clone(), &bytes) {
            Ok(authority) => {
                self.hold(secret.metadata.resource_version);
                Ok(Found::Authority(Box::new(authority)))
            }
            Err(damage) => {
                self.hold(None);
                Ok(Found::Malformed(field, damage.to_string()))
            }
        }
    }

    /// Replaces the state that was last read: the leader's business alone.
    pub async fn save(&self, authority: &CertificateAuthority) -> Result<(), NotStored> {
        let deadline = self.deadline()?;
        let version = self.held().ok_or(NotStored::Unreadable)?;
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": version},
            "data": {KEY: ByteString(authority.to_bytes())},
        }));
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let request = self.secrets.patch(SECRET, &params, &patch);
        let written = bounded(deadline, request).await?;
        self.hold(written.metadata.resource_version);
        Ok(())
    }

    /// Makes the Secret. False: there is one already.
    pub async fn create(&self, authority: &CertificateAuthority) -> Result<bool, NotStored> {
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(SECRET.into()),
                labels: Some(labels()),
                ..ObjectMeta::default()
            },
            data: Some([(KEY.to_owned(), ByteString(authority.to_bytes()))].into()),
            ..Secret::default()
        };
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        // A follower that restores has the same right to: of several, one succeeds.
        let deadline = self.deadline().unwrap_or(Instant::now() + PATIENCE);
        let request = async {
            match self.secrets.create(&params, &secret).await {
                Err(Error::Api(status)) if status.is_already_exists() => Ok(None),
                other => other.map(Some),
            }
        };
        let written = bounded(deadline, request).await?;
        if let Some(written) = &written {
            self.hold(written.metadata.resource_version.clone());
        }
        Ok(written.is_some())
    }

    /// What shows that there has been a CA in this cluster.
    pub async fn evidence(&self) -> Result<Option<String>, NotStored> {
        let namespace = &self.namespace;
        let deadline = Instant::now() + PATIENCE;
        if bounded(deadline, self.lease.has_mark(MARK)).await? {
            let lease = super::lease::LEASE;
            return Ok(Some(format!(
                "annotation {MARK} of Lease {namespace}/{lease}"
            )));
        }
        let published = bounded(deadline, self.config_maps.get_metadata_opt(TRUST)).await?;
        Ok(published.map(|_| format!("ConfigMap {namespace}/{TRUST}")))
    }

    /// Leaves the evidence.
    pub async fn mark(&self) -> Result<(), NotStored> {
        let value = k8s_openapi::jiff::Timestamp::now().to_string();
        bounded(self.deadline()?, self.lease.mark(MARK, &value)).await
    }

    fn deadline(&self) -> Result<Instant, NotStored> {
        let leadership = self.leadership.borrow();
        leadership.deadline().ok_or_else(|| NotStored::Following {
            leader: leadership.leader.clone(),
        })
    }

    fn held(&self) -> Option<String> {
        let version = self.version.lock();
        version.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hold(&self, version: Option<String>) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }
}

async fn bounded<T>(
    deadline: Instant,
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, NotStored> {
    match timeout_at(deadline, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(NotStored::Request(error.to_string())),
        Err(_) => Err(NotStored::Request(
            "the API server did not answer in time".to_owned(),
        )),
    }
}
