//! The loop: connect, get or renew the certificate, keep the stream, come back. Whatever happens to the
//! control plane, look-ups are noted, idle subscriptions let go and the last good configuration stays.

mod report;
mod stream;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::transport::Channel;
use weft_certs::{
    Clock, KeyError, KeyExchange, MeshTls, PeerRole, PrivateKey, RotationSchedule, TrustBundle,
    WorkloadIdentity,
};
use weft_identity::NameError;
use weft_proxy_config::Writer;

use crate::activation::Activation;
use crate::backoff::Backoff;
use crate::certificate::{IssueError, Issued, Proof, is_valid, issue};
use crate::connect::{ConnectError, connect};
use crate::settings::Settings;
use crate::state::State;
use crate::status::{Status, StatusHandle};

/// How often it is looked for what has not been used.
const SWEEP: Duration = Duration::from_secs(30);
/// How long changes are collected before they are written to disk, once there is something to serve from.
const SAVE_AFTER: Duration = Duration::from_secs(1);

/// Why a stream ended or could not be opened.
#[derive(Debug, thiserror::Error)]
enum StreamEnd {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
    #[error("the control plane ended the stream: {} ({:?})", .0.message(), .0.code())]
    Refused(Box<tonic::Status>),
    #[error("the control plane ended the stream")]
    Closed,
    #[error("the certificate was renewed")]
    Renewed,
}

/// The stream client of one proxy.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    tls: MeshTls,
    clock: Arc<dyn Clock>,
    state: State,
    activation: Activation,
    schedule: Option<RotationSchedule>,
    /// The key of a first request that has not been answered yet.
    first_key: Option<PrivateKey>,
    /// The certificate must be renewed whatever the schedule says.
    renew_now: bool,
    status: watch::Sender<Arc<Status>>,
    sweep: Interval,
    save_at: Option<Instant>,
    /// The state directory holds enough to serve from.
    saved_enough: bool,
    rng: StdRng,
}

impl Client {
    /// A client that has restored whatever the state directory holds: identity, trust, configuration.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The service account's name is none.
    pub fn new(
        settings: Settings,
        writer: Writer,
        tls: MeshTls,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, NameError> {
        let id = settings.identity()?;
        let state = State::new(settings.state_dir.as_deref(), &settings.pod);
        let activation = Activation::new(writer, Arc::clone(tls.trust()), settings.pod.clone());
        let mut sweep = tokio::time::interval_at(Instant::now() + SWEEP, SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut client = Self {
            settings,
            tls,
            clock,
            state,
            activation,
            schedule: None,
            first_key: None,
            renew_now: false,
            status: watch::Sender::default(),
            sweep,
            save_at: None,
            saved_enough: false,
            rng: StdRng::from_os_rng(),
        };
        client.widen_trust();
        if let Some(identity) = client.state.identity(&id)
            && is_valid(&identity, client.clock.now())
        {
            client.take_identity(identity);
        }
        client.activation.restore(client.state.resources());
        client.saved_enough = client.has_enough();
        Ok(client)
    }

    /// How it is doing.
    pub fn status(&self) -> StatusHandle {
        StatusHandle(self.status.subscribe())
    }

    /// Runs until `shutdown` is done.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut backoff = Backoff::default();
        loop {
            let end = tokio::select! {
                biased;
                () = &mut shutdown => break,
                end = self.one_stream(&mut backoff) => end,
            };
            self.report_end(&end);
            if matches!(end, StreamEnd::Renewed) {
                continue;
            }
            self.widen_trust();
            let pause = tokio::time::sleep(backoff.next(&mut self.rng));
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = self.meanwhile(pause) => {}
            }
        }
        self.activation.writer().set_connected(false);
        self.save();
    }

    /// Connects, sees to the certificate and keeps a stream until it ends.
    async fn one_stream(&mut self, backoff: &mut Backoff) -> StreamEnd {
        let opened = match self.open().await {
            Ok(channel) => self.open_stream(channel).await,
            Err(end) => Err(end),
        };
        match opened {
            Ok(open) => self.keep(open, backoff).await,
            Err(end) => {
                // Only now: a look-up in the pause between two streams waits for the next one.
                self.activation.writer().set_connected(false);
                end
            }
        }
    }

    /// A connection that shows a valid certificate.
    async fn open(&mut self) -> Result<Channel, StreamEnd> {
        let own = self.tls.clone();
        if !self.has_usable_identity() {
            // A certificate that is of no use must not be shown.
            let channel = self.connect(&self.anonymous()?).await?;
            let proof = Proof::Token(self.first_key().map_err(IssueError::Key)?);
            let issued = issue(self.settings.clone(), channel, proof);
            let issued = self.meanwhile(issued).await?;
            self.take_issued(issued);
            return Ok(self.connect(&own).await?);
        }
        let channel = self.connect(&own).await?;
        if !self.renewal_due() {
            return Ok(channel);
        }
        let issued = issue(self.settings.clone(), channel.clone(), Proof::Certificate);
        match self.meanwhile(issued).await {
            Ok(issued) => {
                self.take_issued(issued);
                Ok(self.connect(&own).await?)
            }
            // What there is will do for a while.
            Err(error) => {
                self.renewal_failed(&error);
                Ok(channel)
            }
        }
    }

    /// The key to ask for the first certificate with: the same one until there is an answer.
    fn first_key(&mut self) -> Result<PrivateKey, KeyError> {
        if let Some(key) = self.first_key.clone().or_else(|| self.state.first_key()) {
            return Ok(key);
        }
        let key = PrivateKey::generate()?;
        self.state.save_first_key(&key);
        self.first_key = Some(key.clone());
        Ok(key)
    }

    /// There is a certificate, it has not expired, and its root is trusted.
    fn has_usable_identity(&self) -> bool {
        let now = self.clock.now();
        let trust = self.tls.trust().current();
        self.tls.identity().current().is_some_and(|identity| {
            let chain = identity.chain().certificates();
            is_valid(&identity, now) && trust.verify(chain, PeerRole::Client, now).is_ok()
        })
    }

    /// TLS that shows no certificate, for first contact.
    fn anonymous(&self) -> Result<MeshTls, StreamEnd> {
        Ok(MeshTls::new(
            Arc::clone(self.tls.trust()),
            Arc::new(WorkloadIdentity::new()),
            Arc::clone(&self.clock),
            KeyExchange::default(),
        )?)
    }

    async fn connect(&mut self, tls: &MeshTls) -> Result<Channel, ConnectError> {
        let (settings, tls) = (self.settings.clone(), tls.clone());
        let expected = settings.control_plane_identity();
        self.meanwhile(async move { connect(&settings.control_plane, &expected, &tls).await })
            .await
    }

    /// Waits for `what` and does what goes on without a stream.
    async fn meanwhile<T>(&mut self, what: impl Future<Output = T>) -> T {
        let mut what = pin!(what);
        loop {
            tokio::select! {
                biased;
                done = &mut what => return done,
                address = self.activation.writer().wanted() => self.activation.want(address),
                _ = self.sweep.tick() => { self.activation.sweep(); }
                () = at(self.save_at) => self.save(),
            }
        }
    }

    /// Trusts what the pod's file and the state directory say in addition to what is trusted: a proxy may have
    /// slept through a rotation of the root. The stream has the last word.
    fn widen_trust(&mut self) {
        let domain = &self.settings.trust_domain;
        let file = &self.settings.trust_bundle_file;
        let pinned = std::fs::read_to_string(file)
            .map_err(|error| error.to_string())
            .and_then(|pem| TrustBundle::from_pem(&pem, domain).map_err(|e| e.to_string()))
            .map_err(|error| tracing::warn!(file = %file.display(), %error, "cannot read the trust bundle"))
            .ok();
        let saved = self.state.bundle(domain);
        let trust = self.tls.trust();
        let current = trust.current();
        let wider = [pinned, saved]
            .into_iter()
            .flatten()
            .fold(current.bundle().clone(), |all, one| all.union(&one));
        trust.replace(wider);
    }

    fn take_issued(&mut self, issued: Issued) {
        if let Some(bundle) = &issued.bundle {
            let trust = self.tls.trust();
            trust.replace(trust.current().bundle().union(bundle));
            self.state.save_bundle(trust.current().bundle());
        }
        self.state.save_identity(&issued.identity);
        self.first_key = None;
        self.take_identity(issued.identity);
    }

    fn take_identity(&mut self, identity: weft_certs::Identity) {
        let chain = identity.chain();
        self.schedule = Some(RotationSchedule::new(
            chain.not_before(),
            chain.not_after(),
            &mut self.rng,
        ));
        self.renew_now = false;
        tracing::info!(id = %chain.id(), serial = %chain.serial(), "certificate in use");
        self.tls.identity().set(identity);
        self.report_certificate();
    }

    fn renewal_due(&self) -> bool {
        let now = self.clock.now();
        let due = |schedule: &RotationSchedule| schedule.delay(now).is_zero();
        self.renew_now || self.schedule.as_ref().is_some_and(due)
    }

    /// How long until the certificate should be renewed.
    fn renewal_delay(&self) -> Option<Duration> {
        let now = self.clock.now();
        self.schedule.as_ref().map(|schedule| schedule.delay(now))
    }

    fn renewal_failed(&mut self, error: &IssueError) {
        tracing::warn!(%error, "cannot renew the certificate");
        let now = self.clock.now();
        self.renew_now = false;
        if let Some(schedule) = &mut self.schedule {
            schedule.failed(now, &mut self.rng);
        }
        self.report_certificate();
    }

    /// After a change of trust: a certificate that rests on a root which is gone is of no use.
    fn check_own_chain(&mut self) {
        if !self.has_usable_identity() {
            tracing::warn!("the own certificate is no longer trusted, renewing it");
            self.renew_now = true;
        }
    }

    fn save(&mut self) {
        self.save_at = None;
        self.state.save_resources(self.activation.active());
    }

    /// The first configuration that is enough to serve is written at once, before anyone can be told that this proxy is
    /// ready: who is ready serves also after a crash. What changes later is collected.
    fn save_soon(&mut self) {
        if !self.saved_enough && self.has_enough() {
            self.saved_enough = true;
            self.save();
            return;
        }
        self.save_at
            .get_or_insert_with(|| Instant::now() + SAVE_AFTER);
    }

    /// What readiness asks of the configuration.
    fn has_enough(&mut self) -> bool {
        let store = self.activation.writer().store();
        store.is_mesh_known() && store.inbound().is_some()
    }
}

/// Sleeps until an instant; for ever without one.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
