//! One replica's part in a cluster: its Lease, the CA's Secret, the trust anchors' ConfigMaps,
//! the status of objects, what the replicas heard and the reviews of tokens, made from the settings
//! and kept as tasks.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use weft_certs::{AuthoritySettings, Clock};
use weft_xds::Server;

use super::ca_keeper::CaKeeper;
use super::ca_secret::CaSecret;
use super::heard::replica::Heard;
use super::lease::LeaderLease;
use super::status::writer::StatusWriter;
use super::status::xmesh::MeshObjects;
use super::token_review::TokenReviewer;
use super::trust_config_map::TrustConfigMaps;
use super::webhook::replica::Webhook;
use crate::authority::Authority;
use crate::certificates::FirstContact;
use crate::mesh::Mesh;
use crate::settings::{ClusterSettings, Run};

/// For giving the Lease away at the end.
const GOODBYE: Duration = Duration::from_secs(2);

pub(crate) struct Cluster {
    client: Client,
    namespace: String,
    pod: String,
    lease: Arc<LeaderLease>,
    secret: Arc<CaSecret>,
}

impl Cluster {
    /// Finds the API server; speaks to it later.
    pub async fn connect(settings: &ClusterSettings) -> anyhow::Result<Self> {
        Ok(Self::new(super::client().await?, settings))
    }

    fn new(client: Client, settings: &ClusterSettings) -> Self {
        let namespace = settings.namespace.clone();
        let pod = settings.pod.as_deref().unwrap_or("control-plane");
        let lease = LeaderLease::new(client.clone(), &namespace, pod, settings.lease_duration);
        let lease = Arc::new(lease);
        let supplied = settings.ca_secret.clone();
        let secret = CaSecret::new(client.clone(), &namespace, supplied, Arc::clone(&lease));
        Self {
            client,
            namespace,
            pod: pod.to_owned(),
            lease,
            secret: Arc::new(secret),
        }
    }

    /// The authority whose state is in the Secret; none is in force until a task has read it.
    pub fn authority(&self, settings: AuthoritySettings, clock: Arc<dyn Clock>) -> Authority {
        Authority::of_secret(settings, Arc::clone(&self.secret), clock)
    }

    /// How new pods prove which one they are.
    pub fn first_contact(&self) -> FirstContact {
        FirstContact::TokenReview(TokenReviewer::new(self.client.clone()))
    }

    /// The webhook at its address.
    pub async fn webhook(&self, settings: &Run, clock: &Arc<dyn Clock>) -> anyhow::Result<Webhook> {
        Webhook::bind(
            settings.cluster.webhook,
            settings.injection(),
            (self.client.clone(), &self.namespace),
            self.lease.leadership(),
            Arc::clone(clock),
        )
        .await
    }

    /// What proxies tell this replica and the others.
    pub fn heard(
        &self,
        authority: &Arc<Authority>,
        mesh: &Arc<Mesh>,
        server: &Server,
    ) -> Arc<Heard> {
        Arc::new(Heard::new(
            self.client.clone(),
            (&self.namespace, &self.pod),
            Arc::clone(mesh),
            server.clone(),
            Arc::clone(authority),
            self.lease.leadership(),
        ))
    }

    /// Begins to take part. `ready` becomes true once every source has listed.
    pub fn spawn(
        &self,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        authority: &Arc<Authority>,
        mesh: &Arc<Mesh>,
        (server, heard): (&Server, &Arc<Heard>),
        ready: watch::Receiver<bool>,
    ) {
        let (listening, listed) = (Arc::clone(heard), ready.clone());
        tasks.spawn(async move {
            listening.keep(listed).await;
            Ok(())
        });
        let lease = Arc::clone(&self.lease);
        tasks.spawn(async move {
            lease.keep().await;
            Ok(())
        });
        let secret = Arc::clone(&self.secret);
        let keeper = CaKeeper::new(secret, Arc::clone(authority), server.clone());
        tasks.spawn(async move {
            keeper.keep().await;
            Ok(())
        });
        let maps = TrustConfigMaps::new(
            self.client.clone(),
            &self.namespace,
            Arc::clone(authority),
            Arc::clone(mesh),
            self.lease.leadership(),
            ready.clone(),
        );
        tasks.spawn(async move {
            maps.keep().await;
            Ok(())
        });
        let statuses = StatusWriter::new(
            self.client.clone(),
            Arc::clone(mesh),
            Arc::clone(heard),
            server.progress(),
            self.lease.leadership(),
            ready,
        );
        tasks.spawn(async move {
            statuses.keep().await;
            Ok(())
        });
        let meshes = MeshObjects::new(self.client.clone(), self.lease.leadership());
        tasks.spawn(async move {
            meshes.keep().await;
            Ok(())
        });
    }

    /// Lets another replica lead at once. The tasks must have ended: nothing is written any more.
    pub async fn release(&self) {
        match timeout(GOODBYE, self.lease.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("the Lease could not be given away: {error:#}"),
            Err(_) => tracing::warn!("the Lease could not be given away in time"),
        }
    }
}
