//! One replica's webhook: CA, certificate, bundle and server, made from the settings and kept as
//! tasks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use weft_certs::Clock;
use weft_inject::InjectSettings;

use super::caller_bundle::{Believed, CallerBundle};
use super::certificate::{Serving, dns_names, keep_current};
use super::review::{Injector, NamespaceAnnotations};
use super::server::serve;
use super::serving_secret::ServingSecret;
use crate::kubernetes::lease::Leadership;
use crate::mesh::Mesh;

/// The Service that the API server calls.
const SERVICE: &str = "weft-control-plane";

/// A webhook that listens.
pub(crate) struct Webhook {
    listener: TcpListener,
    secret: ServingSecret,
    bundle: CallerBundle,
    serving: Serving,
    certificate: watch::Sender<Option<Arc<rustls::sign::CertifiedKey>>>,
    names: Vec<String>,
    namespaces: watch::Sender<NamespaceAnnotations>,
    clock: Arc<dyn Clock>,
    health: WebhookHealth,
}

/// What others may know of it.
#[derive(Clone)]
pub(crate) struct WebhookHealth {
    /// Whether the API server would believe it.
    pub believed: watch::Receiver<Believed>,
    /// Counts its decisions.
    pub injector: Arc<Injector>,
}

impl Webhook {
    /// Binds its address; calls are answered once it is [spawned](Self::spawn).
    pub async fn bind(
        address: SocketAddr,
        settings: InjectSettings,
        (client, namespace): (Client, &str),
        leadership: watch::Receiver<Leadership>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        let secret = ServingSecret::new(
            client.clone(),
            namespace,
            leadership.clone(),
            Arc::clone(&clock),
        );
        let (certificate, serving) = watch::channel(None);
        let bundle = CallerBundle::new(
            client,
            leadership,
            secret.rotation(),
            serving.clone(),
            format!("{SERVICE}.{namespace}.svc"),
            Arc::clone(&clock),
        );
        let namespaces = watch::Sender::new(NamespaceAnnotations::default());
        let injector = Arc::new(Injector::new(settings, namespaces.subscribe()));
        Ok(Self {
            listener,
            secret,
            health: WebhookHealth {
                believed: bundle.believed(),
                injector,
            },
            bundle,
            serving,
            certificate,
            names: dns_names(SERVICE, namespace),
            namespaces,
            clock,
        })
    }

    /// What others may know of it.
    pub fn health(&self) -> WebhookHealth {
        self.health.clone()
    }

    /// Begins to keep what it needs and to serve, until `stop`.
    pub fn spawn(
        self,
        writers: &mut JoinSet<anyhow::Result<()>>,
        servers: &mut JoinSet<anyhow::Result<()>>,
        mesh: Arc<Mesh>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) {
        let rotation = self.secret.rotation();
        let keep = keep_current(rotation, self.names, self.clock, self.certificate);
        writers.spawn(async move {
            keep.await;
            Ok(())
        });
        let (secret, bundle, namespaces) = (self.secret, self.bundle, self.namespaces);
        writers.spawn(async move {
            secret.keep().await;
            Ok(())
        });
        writers.spawn(async move {
            bundle.keep().await;
            Ok(())
        });
        writers.spawn(async move {
            follow_namespaces(&mesh, &namespaces).await;
            Ok(())
        });
        servers.spawn(serve(
            self.listener,
            self.serving,
            self.health.injector,
            stop,
        ));
    }
}

/// Tells what namespaces say about their pods, for ever.
async fn follow_namespaces(mesh: &Mesh, told: &watch::Sender<NamespaceAnnotations>) {
    let mut world = mesh.changed();
    loop {
        world.borrow_and_update();
        let found: BTreeMap<_, _> = mesh.namespace_annotations(weft_inject::names::PREFIX);
        told.send_if_modified(|before| {
            let changed = **before != found;
            if changed {
                *before = Arc::new(found);
            }
            changed
        });
        // An error means that everything is being dropped.
        if world.changed().await.is_err() {
            return;
        }
    }
}
