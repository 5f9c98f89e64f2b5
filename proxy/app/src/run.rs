//! `weft-proxy run`: everything wired together.
//!
//! The main thread has the stream client, certificates, admin and metrics; the workers have the
//! traffic. They share the store, trust and identity, telemetry, and how far leaving has come.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use weft_certs::{MeshTls, SystemClock, TrustBundle, TrustStore, WorkloadIdentity};
use weft_proxy_config::{Store, StoreLimits, Writer};
use weft_proxy_net::{Leaving, Limits, Listener, Phase, Proxy, Role, seats};
use weft_proxy_telemetry::{AccessLog, Telemetry};
use weft_proxy_xds::Client;

use crate::admin::{self, Admin};
use crate::departure::{leave, say_goodbye_when_terminating};
use crate::dump::About;
use crate::health::{Health, health_routes, metrics_routes};
use crate::process_metrics::ProcessMetrics;
use crate::readiness::{Readiness, everywhere};
use crate::settings::Settings;
use crate::workers::Workers;

/// Series that nobody used in this time are dropped.
const TELEMETRY_SWEEP: Duration = Duration::from_secs(3600);

/// What the stream client is given to save its state in the end.
const LAST_SAVE: Duration = Duration::from_secs(2);

/// Runs a proxy until it has left.
///
/// # Errors
/// What keeps it from starting, naming the setting; or a worker that failed.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    let log = start_log(&settings.log)?;
    raise_descriptor_limit();
    let (store, writer) = Store::new(StoreLimits::default());
    let proxy = proxy(&settings, store)?;
    let (acceptors, seats) = seats(
        listeners(&settings)?,
        settings.workers,
        &proxy.leaving,
        settings.max_connections,
    );
    let workers = Workers::start(
        &proxy,
        acceptors,
        seats,
        &weft_proxy_http::Settings::default(),
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(control(settings, proxy, writer, workers, log))
}

type LogHandle = reload::Handle<Targets, tracing_subscriber::Registry>;

fn start_log(filter: &str) -> anyhow::Result<LogHandle> {
    let filter: Targets = filter.parse().context("--log")?;
    let (filter, handle) = reload::Layer::new(filter);
    tracing_subscriber::registry()
        .with(filter)
        .with(
            tracing_subscriber::fmt::layer()
                .with_writer(io::stderr)
                .with_ansi(io::stderr().is_terminal()),
        )
        .try_init()
        .context("cannot start the log")?;
    Ok(handle)
}

/// Two descriptors per connection soon exceed the usual soft limit.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
}

fn proxy(settings: &Settings, store: Arc<Store>) -> anyhow::Result<Proxy> {
    let tls = MeshTls::new(
        Arc::new(TrustStore::new(TrustBundle::default())),
        Arc::new(WorkloadIdentity::new()),
        Arc::new(SystemClock),
        settings.key_exchange,
    )
    .context("cannot set up TLS")?;
    let access_log = match settings.access_log {
        true => Some(AccessLog::start(io::stdout()).context("cannot start the access log")?),
        false => None,
    };
    let applications = settings
        .listeners
        .iter()
        .filter_map(|(_, role)| match *role {
            Role::InboundTo { pod, app } => Some((pod, app)),
            _ => None,
        });
    Ok(Proxy {
        store,
        tls,
        telemetry: Telemetry::new(weft_proxy_telemetry::Settings {
            access_log,
            ..Default::default()
        }),
        leaving: Leaving::new(),
        addresses: settings.addresses.clone().into(),
        applications: applications.collect(),
        limits: Limits {
            keepalive: settings.keepalive,
            ..Limits::default()
        },
    })
}

fn listeners(settings: &Settings) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    if settings.interception {
        listeners.extend(Listener::intercepting()?);
    }
    for (address, role) in &settings.listeners {
        listeners.push(Listener::bind(*address, role.clone())?);
    }
    let told = |listener: Listener| listener.keep_alive(settings.keepalive);
    Ok(listeners.into_iter().map(told).collect())
}

/// The main thread's part, from start to the end of leaving.
async fn control(
    settings: Settings,
    proxy: Proxy,
    writer: Writer,
    mut workers: Workers,
    log: LogHandle,
) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let (store, leaving) = (Arc::clone(&proxy.store), proxy.leaving.clone());
    let readiness = Arc::new(Readiness {
        identity: Arc::clone(proxy.tls.identity()),
        store: Arc::clone(&store),
        leaving: leaving.clone(),
        listeners_up: AtomicBool::new(true),
        redirected: AtomicBool::new(!settings.interception),
    });
    let client = client(&settings, writer, &proxy.tls)?;
    let mut tasks = JoinSet::new();
    serve_all(&settings, &proxy, &readiness, &client, log, &mut tasks).await?;
    let mut stream = JoinSet::new();
    stream.spawn({
        let leaving = leaving.clone();
        client.run(async move { leaving.reached(Phase::Ended).await })
    });
    tasks.spawn(say_goodbye_when_terminating(
        Arc::clone(&store),
        leaving.clone(),
    ));
    tasks.spawn(sweep(Arc::clone(&proxy.telemetry)));
    if settings.interception {
        let readiness = Arc::clone(&readiness);
        tasks.spawn(async move { readiness.test_redirection().await });
    }
    tokio::select! {
        () = signals.next() => {}
        () = workers.ended() => {
            workers.join()?;
            anyhow::bail!("the workers ended without being asked to");
        }
    }
    tokio::select! {
        () = leave(&store, &leaving, settings.drain_timeout) => {}
        () = signals.next() => {
            tracing::warn!("told twice to stop: what is open is cut");
            leaving.advance(Phase::Ended);
        }
    }
    workers.ended().await;
    // It saves what it has learned last.
    let _ = tokio::time::timeout(LAST_SAVE, stream.join_next()).await;
    workers.join()
}

fn client(settings: &Settings, writer: Writer, tls: &MeshTls) -> anyhow::Result<Client> {
    let settings = weft_proxy_xds::Settings {
        control_plane: settings.control_plane.clone(),
        trust_domain: settings.trust_domain.clone(),
        pod: settings.pod.clone(),
        service_account: settings.service_account.clone(),
        trust_bundle_file: settings.trust_bundle.clone(),
        token_file: settings.token_file.clone(),
        state_dir: settings.state_dir.clone(),
    };
    Client::new(settings, writer, tls.clone(), Arc::new(SystemClock)).context("--service-account")
}

/// Admin, metrics, readiness and probes, each on its own listener.
async fn serve_all(
    settings: &Settings,
    proxy: &Proxy,
    readiness: &Arc<Readiness>,
    client: &Client,
    log: LogHandle,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    registry.register_collector(proxy.telemetry.collector());
    registry.register_collector(Box::new(ProcessMetrics {
        readiness: Arc::clone(readiness),
        status: client.status(),
    }));
    let metrics = metrics_routes(Arc::new(registry));
    let admin = admin::routes(Arc::new(Admin {
        readiness: Arc::clone(readiness),
        about: About {
            pod: settings.pod.to_string(),
            addresses: settings.addresses.clone(),
            control_plane: settings.control_plane.clone(),
            status: client.status(),
        },
        log,
    }))
    .merge(metrics.clone());
    tasks.spawn(serve(bind(settings.admin).await?, admin.clone()));
    if let Some(path) = &settings.admin_socket {
        let socket = admin::bind_socket(path)?;
        tasks.spawn(async move { ended(axum::serve(socket, admin).await) });
    }
    for address in everywhere(settings.metrics_port) {
        serve_where_possible(address, &metrics, tasks).await?;
    }
    let pod = settings.addresses.first().copied();
    let health = health_routes(Arc::new(Health {
        readiness: Arc::clone(readiness),
        probes: settings.probes.clone(),
        pod: pod.context("--pod-ip is missing")?,
    }));
    for address in everywhere(settings.health_port) {
        serve_where_possible(address, &health, tasks).await?;
    }
    readiness.listeners_up.store(true, Ordering::Release);
    Ok(())
}

/// A host without IPv6 has no `[::]`.
async fn serve_where_possible(
    address: SocketAddr,
    routes: &Router,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    match bind(address).await {
        Ok(listener) => {
            tasks.spawn(serve(listener, routes.clone()));
            Ok(())
        }
        Err(error) if address.is_ipv6() => {
            tracing::info!(error = format!("{error:#}"), "not served over IPv6");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM.nonblocking(),
            Some(socket2::Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(128)?;
        TcpListener::from_std(socket.into())
    };
    listen().with_context(|| format!("cannot listen on {address}"))
}

async fn serve(listener: TcpListener, routes: Router) {
    ended(axum::serve(listener, routes).await);
}

fn ended(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        tracing::error!(%error, "a listener of the proxy's own ended");
    }
}

async fn sweep(telemetry: Arc<Telemetry>) {
    loop {
        tokio::time::sleep(TELEMETRY_SWEEP).await;
        telemetry.sweep();
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let install = |kind| signal(kind).context("cannot install signal handlers");
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
