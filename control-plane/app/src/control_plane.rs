//! Everything together: settings → listeners, tasks, shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server as GrpcServer;
use weft_certs::{AuthoritySettings, Clock, KeyExchange, MeshTls, SystemClock};
use weft_identity::SpiffeId;
use weft_proto::ca::certificate_service_server::CertificateServiceServer;
use weft_xds::{Limits, Server};

use crate::admin::{Admin, AdminListener, router};
use crate::authority::{Authority, wire_bundle};
use crate::certificates::{Certificates, FirstContact, JoinRecords};
use crate::health;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::heard::replica::Heard;
use crate::kubernetes::webhook::replica::Webhook;
use crate::mesh::Mesh;
use crate::own_identity::OwnIdentity;
use crate::root_rotation::RootRotation;
use crate::settings::{Run, Sources};
use crate::source::Source;
use crate::state_directory::StateDirectory;
use crate::tls_listener::TlsListener;

/// Connections that have not ended by then are cut at shutdown.
const GOODBYE: Duration = Duration::from_secs(5);
/// A proxy that does not answer pings is gone after both together.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// One stream and a few renewals per connection.
const STREAMS_PER_CONNECTION: u32 = 16;
/// Requests are small; an idle connection should be, too.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Largest request for a certificate.
const MAX_CERTIFICATE_REQUEST: usize = 64 * 1024;

/// A control plane that listens.
pub struct ControlPlane {
    addresses: Vec<SocketAddr>,
    admin_addresses: Vec<SocketAddr>,
    health_addresses: Vec<SocketAddr>,
    server: Server,
    goodbye: watch::Sender<bool>,
    /// They end by themselves at the end.
    servers: JoinSet<anyhow::Result<()>>,
    tasks: JoinSet<anyhow::Result<()>>,
    /// Locked as long as this runs.
    _state: Option<StateDirectory>,
    /// What writes to the cluster: ends before the Lease is given away.
    writers: JoinSet<anyhow::Result<()>>,
    cluster: Option<Cluster>,
}

impl ControlPlane {
    /// Opens the CA, binds all listeners and begins to read the sources. Streams are served once
    /// every source has been read.
    ///
    /// # Errors
    /// State that cannot be used, an address that cannot be bound.
    pub async fn start(settings: Run) -> anyhow::Result<Self> {
        Self::start_at(settings, Arc::new(SystemClock)).await
    }

    /// As [`ControlPlane::start`], by another clock (for certificates; timers are tokio's).
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub async fn start_at(settings: Run, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let state = settings.state.as_deref().map(StateDirectory::open);
        let state = state.transpose()?;
        let cluster = match settings.sources.kubernetes {
            true => Some(Cluster::connect(&settings.cluster).await?),
            false => None,
        };
        let authority = Arc::new(authority(&settings, cluster.as_ref(), &clock)?);
        let replica = format!("{:08x}", rand::random::<u32>());
        let trust = wire_bundle(&authority.bundle());
        let limits = Limits {
            longest_stream: settings.longest_stream,
            ..Limits::default()
        };
        let server = Server::new(&replica, trust, limits);
        let compile = weft_compile::Settings {
            trust_domain: settings.trust_domain.clone(),
            address_ranges: settings.mesh_cidrs.clone(),
        };
        let mesh = Arc::new(Mesh::new(compile, server.clone()));
        let own = OwnIdentity::new(
            SpiffeId::control_plane(&settings.trust_domain),
            Arc::clone(&authority),
        )?;
        let tls = TlsListener {
            tls: MeshTls::new(
                Arc::clone(authority.trust()),
                Arc::clone(own.identity()),
                Arc::clone(&clock),
                KeyExchange::default(),
            )?,
            clock,
            masqueraded: settings.cluster.no_address_check,
        };
        let mut this = Self {
            addresses: Vec::new(),
            admin_addresses: Vec::new(),
            server: server.clone(),
            goodbye: watch::Sender::new(false),
            health_addresses: Vec::new(),
            servers: JoinSet::new(),
            tasks: JoinSet::new(),
            _state: state,
            writers: JoinSet::new(),
            cluster,
        };
        let (ready, is_ready) = watch::channel(false);
        let first_contact = this.first_contact(&settings);
        let certificates = Arc::new(Certificates::new(
            Arc::clone(&authority),
            Arc::clone(&mesh),
            first_contact,
            is_ready.clone(),
        ));
        for address in &settings.listen {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen on {address}"))?;
            this.serve_grpc(listener, tls.clone(), &certificates)?;
        }
        let webhook = match &this.cluster {
            Some(cluster) => Some(cluster.webhook(&settings, authority.clock()).await?),
            None => None,
        };
        let admin = Arc::new(Admin {
            server: server.clone(),
            mesh: Arc::clone(&mesh),
            authority: Arc::clone(&authority),
            webhook: webhook.as_ref().map(Webhook::health),
        });
        this.serve_http(&settings, &admin).await?;
        if let Some(webhook) = webhook {
            this.serve_webhook(webhook, &mesh);
        }
        let heard = this.take_part(&authority, &mesh, &server, is_ready);
        let rotation = RootRotation {
            authority,
            mesh: Arc::clone(&mesh),
            server,
            heard,
        };
        this.tasks.spawn(async move {
            rotation.drive().await;
            Ok(())
        });
        this.tasks.spawn(async move {
            own.keep().await;
            Ok(())
        });
        this.tasks.spawn(read(settings.sources, mesh, ready));
        Ok(this)
    }

    /// Begins this replica's part in a cluster, if there is one.
    fn take_part(
        &mut self,
        authority: &Arc<Authority>,
        mesh: &Arc<Mesh>,
        server: &Server,
        ready: watch::Receiver<bool>,
    ) -> Option<Arc<Heard>> {
        let cluster = self.cluster.as_ref()?;
        let heard = cluster.heard(authority, mesh, server);
        let tasks = &mut self.writers;
        cluster.spawn(tasks, authority, mesh, (server, &heard), ready);
        Some(heard)
    }

    /// How a pod without a certificate is believed.
    fn first_contact(&self, settings: &Run) -> FirstContact {
        match (&self.cluster, &settings.join_dir) {
            (Some(cluster), _) => cluster.first_contact(),
            (None, Some(folder)) => FirstContact::JoinRecords(JoinRecords::new(folder.clone())),
            (None, None) => FirstContact::Nobody,
        }
    }

    /// Admin, and health.
    async fn serve_http(&mut self, settings: &Run, admin: &Arc<Admin>) -> anyhow::Result<()> {
        for address in &settings.admin {
            let listener = AdminListener::bind(address).await?;
            self.admin_addresses.extend(listener.address());
            let router = router(Arc::clone(admin));
            self.tasks
                .spawn(async move { Ok(listener.serve(router).await?) });
        }
        for address in settings.health() {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen on {address}"))?;
            self.health_addresses.push(listener.local_addr()?);
            let router = health::router(Arc::clone(admin));
            self.tasks
                .spawn(async move { Ok(axum::serve(listener, router).await?) });
        }
        Ok(())
    }

    fn serve_webhook(&mut self, webhook: Webhook, mesh: &Arc<Mesh>) {
        let mut goodbye = self.goodbye.subscribe();
        let stop = async move {
            // An error means that everything is being dropped anyway.
            let _ = goodbye.wait_for(|goodbye| *goodbye).await;
        };
        let (writers, servers) = (&mut self.writers, &mut self.servers);
        webhook.spawn(writers, servers, Arc::clone(mesh), stop);
    }

    fn serve_grpc(
        &mut self,
        listener: TcpListener,
        tls: TlsListener,
        certificates: &Arc<Certificates>,
    ) -> anyhow::Result<()> {
        let address = listener.local_addr()?;
        tracing::info!(%address, "serving streams and certificates");
        self.addresses.push(address);
        let (accepted, connections) = mpsc::channel(crate::tls_listener::READY);
        self.tasks
            .spawn(async move { tls.serve(listener, accepted).await });
        let certificates = CertificateServiceServer::from_arc(Arc::clone(certificates))
            .max_decoding_message_size(MAX_CERTIFICATE_REQUEST);
        let mut goodbye = self.goodbye.subscribe();
        let server = GrpcServer::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .add_service(self.server.service())
            .add_service(certificates)
            .serve_with_incoming_shutdown(ReceiverStream::new(connections), async move {
                // An error means that everything is being dropped anyway.
                let _ = goodbye.wait_for(|goodbye| *goodbye).await;
            });
        self.servers.spawn(async move { Ok(server.await?) });
        Ok(())
    }

    /// Where the gRPC listeners are.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin interface is, as far as it is on TCP.
    #[must_use]
    pub fn admin_addresses(&self) -> &[SocketAddr] {
        &self.admin_addresses
    }

    /// Where health and metrics are.
    #[must_use]
    pub fn health_addresses(&self) -> &[SocketAddr] {
        &self.health_addresses
    }

    /// Runs until `shutdown`, then ends streams, and connections within a few seconds.
    ///
    /// # Errors
    /// A part that cannot go on.
    pub async fn run_until(mut self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        tokio::select! {
            () = shutdown => {}
            Some(ended) = self.tasks.join_next() => {
                ended.context("a task of the control plane panicked")??;
                anyhow::bail!("a task of the control plane ended unexpectedly");
            }
            Some(ended) = self.writers.join_next() => {
                ended.context("a task of the cluster's objects panicked")??;
                anyhow::bail!("a task of the cluster's objects ended unexpectedly");
            }
            Some(ended) = self.servers.join_next() => {
                ended.context("a server of the control plane panicked")??;
                anyhow::bail!("a server of the control plane ended unexpectedly");
            }
        }
        tracing::info!("shutting down");
        self.goodbye.send_replace(true);
        self.server.close();
        self.writers.shutdown().await;
        if let Some(cluster) = &self.cluster {
            cluster.release().await;
        }
        let ended = async { while self.servers.join_next().await.is_some() {} };
        if timeout(GOODBYE, ended).await.is_err() {
            tracing::warn!("connections were still open at the end");
        }
        Ok(())
    }
}

/// Reads the sources and follows them.
async fn read(
    settings: Sources,
    mesh: Arc<Mesh>,
    ready: watch::Sender<bool>,
) -> anyhow::Result<()> {
    let mut source = Source::start(&settings).await?;
    mesh.reads(source.progress());
    let first = source.next().await.context("the sources ended early")?;
    tracing::info!(objects = first.changes.len(), "the sources have been read");
    mesh.open(first);
    ready.send_replace(true);
    mesh.follow(source).await;
    anyhow::bail!("the watch of the sources ended")
}

fn authority(
    settings: &Run,
    cluster: Option<&Cluster>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Authority> {
    let authority = AuthoritySettings {
        leaf_lifetime: settings.leaf_lifetime,
        root_lifetime: settings.root_lifetime,
        ..AuthoritySettings::new(settings.trust_domain.clone())
    };
    if let Some(cluster) = cluster {
        return Ok(cluster.authority(authority, Arc::clone(clock)));
    }
    let state = settings.state.as_deref();
    let state = state.context("neither --state nor --kubernetes says where the CA is")?;
    Authority::open(state, authority, Arc::clone(clock))
}
