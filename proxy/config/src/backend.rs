//! One service port as the target of requests: who is behind it now, and what must survive every
//! change of that.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};

use crate::budget::RetryBudget;
use crate::endpoint::Endpoint;
use crate::limits::{Gate, Overloaded, Permit};
use crate::protocol::Protocol;
use crate::traffic::{ConnectionLimits, OutlierDetection, RetryPolicy, TrafficPolicy};

/// What identifies a backend: a service and one of its ports. A pod's own address has its IP for a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendKey {
    /// Namespace of the service.
    pub namespace: Arc<str>,
    /// Name of the service.
    pub name: Arc<str>,
    /// The service's port.
    pub port: u16,
}

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.name, self.port)
    }
}

/// One service port as a target of requests. There is one per key as long as anybody refers to it: what
/// `state` holds survives changes of configuration.
#[derive(Debug)]
pub struct Backend {
    /// Which service and port.
    pub key: BackendKey,
    snapshot: ArcSwap<BackendSnapshot>,
    /// Limits, retry budget, turns.
    pub state: BackendState,
}

/// Who is behind a backend at the moment.
#[derive(Debug)]
pub struct BackendSnapshot {
    targets: Box<[Target]>,
    usable: usize,
    /// Cumulative weights of the usable targets; empty when all weigh the same.
    cumulative: Box<[u64]>,
    /// How the service is to be treated.
    pub policy: Arc<TrafficPolicy>,
    /// What the port speaks, where its endpoints do not say better.
    pub protocol: Protocol,
}

/// One endpoint at the port in question.
#[derive(Debug, Clone)]
pub struct Target {
    /// Whose address it is.
    pub endpoint: Arc<Endpoint>,
    /// Where to connect to.
    pub addr: SocketAddr,
    /// Over mTLS, to `endpoint.identity`.
    pub mtls: bool,
    /// What is spoken there.
    pub protocol: Protocol,
}

impl Target {
    /// The endpoint's ID in this process.
    pub fn id(&self) -> u64 {
        self.endpoint.state.id()
    }
}

/// What belongs to the backend whatever its configuration: shared by all workers, atomics on the hot path.
#[derive(Debug)]
pub struct BackendState {
    requests: Gate,
    connections: Gate,
    pending: Gate,
    budget: RetryBudget,
    pub(crate) turn: AtomicU64,
    /// Ejections are rare, and their bound must not be overshot: one at a time.
    ejecting: Mutex<()>,
}

impl BackendState {
    fn new(now: Instant) -> Self {
        Self {
            requests: Gate::default(),
            connections: Gate::default(),
            pending: Gate::default(),
            budget: RetryBudget::new(now),
            turn: AtomicU64::new(0),
            ejecting: Mutex::new(()),
        }
    }

    /// A place for one more request in flight.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn try_request(&self, limits: &ConnectionLimits) -> Result<Permit, Overloaded> {
        self.requests
            .enter(limits.max_requests)
            .ok_or(Overloaded::Requests)
    }

    /// A place for one more connection.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn try_connection(&self, limits: &ConnectionLimits) -> Result<Permit, Overloaded> {
        self.connections
            .enter(limits.max_connections)
            .ok_or(Overloaded::Connections)
    }

    /// Was this place for a connection given here?
    pub fn is_connection(&self, permit: &Permit) -> bool {
        self.connections.gave(permit)
    }

    /// A place for one more request that waits for a connection.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn try_pending(&self, limits: &ConnectionLimits) -> Result<Permit, Overloaded> {
        self.pending
            .enter(limits.max_pending)
            .ok_or(Overloaded::Pending)
    }

    /// Counts a first attempt into the retry budget.
    pub fn deposit(&self, now: Instant) {
        self.budget.deposit(now);
    }

    /// Takes one retry out of the budget; false: it is spent.
    pub fn try_withdraw(&self, now: Instant, policy: &RetryPolicy) -> bool {
        self.budget.try_withdraw(now, policy)
    }

    /// Requests in flight.
    pub fn requests(&self) -> u32 {
        self.requests.taken()
    }

    /// Open connections.
    pub fn connections(&self) -> u32 {
        self.connections.taken()
    }

    /// Requests that wait for a connection.
    pub fn pending(&self) -> u32 {
        self.pending.taken()
    }
}

impl Backend {
    /// One that nothing is behind yet.
    pub fn new(key: BackendKey) -> Arc<Self> {
        Arc::new(Self {
            key,
            snapshot: ArcSwap::from_pointee(BackendSnapshot::empty()),
            state: BackendState::new(Instant::now()),
        })
    }

    /// Namespace of the service.
    pub fn namespace(&self) -> &Arc<str> {
        &self.key.namespace
    }

    /// Name of the service.
    pub fn name(&self) -> &Arc<str> {
        &self.key.name
    }

    /// The service's port.
    pub fn port(&self) -> u16 {
        self.key.port
    }

    /// Who is behind it now. Cheap; hold it for the length of one attempt, not longer.
    pub fn load(&self) -> Guard<Arc<BackendSnapshot>> {
        self.snapshot.load()
    }

    /// Who is behind it now, to be kept.
    pub fn snapshot(&self) -> Arc<BackendSnapshot> {
        self.snapshot.load_full()
    }

    pub(crate) fn replace(&self, snapshot: BackendSnapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }

    /// An attempt at `target` went well.
    pub fn on_success(&self, target: &Target, now: Instant) {
        target.endpoint.state.on_success(now);
    }

    /// An attempt at `target` failed in a way that speaks against the endpoint (not reachable, reset, 5xx).
    /// Ejects it when the policy says so; true if this failure ejected it.
    pub fn on_failure(&self, target: &Target, now: Instant) -> bool {
        let snapshot = self.snapshot.load();
        let Some(policy) = &snapshot.policy.outlier else {
            return false;
        };
        let state = &target.endpoint.state;
        if !state.failed(now, policy) {
            return false;
        }
        let _one_at_a_time = self
            .state
            .ejecting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if state.is_ejected(now) || !snapshot.may_eject_another(now, policy) {
            return false;
        }
        state.eject(now, policy);
        true
    }
}

impl BackendSnapshot {
    /// Nobody.
    pub fn empty() -> Self {
        Self::new([], 0, Arc::default(), Protocol::Detect)
    }

    /// Those of `endpoints` that have the service's port `service_port` (0: a pod's own port).
    pub fn new(
        endpoints: impl IntoIterator<Item = Arc<Endpoint>>,
        service_port: u16,
        policy: Arc<TrafficPolicy>,
        protocol: Protocol,
    ) -> Self {
        let mut targets: Vec<Target> = endpoints
            .into_iter()
            .filter_map(|endpoint| Target::at(endpoint, service_port, protocol))
            .collect();
        targets.sort_by_key(|target| (!target.endpoint.is_usable(), target.addr));
        targets.dedup_by_key(|target| target.addr);
        let usable = targets
            .iter()
            .take_while(|target| target.endpoint.is_usable())
            .count();
        let weights = || targets[..usable].iter().map(|t| t.endpoint.weight.max(1));
        let first = weights().next();
        let cumulative = if weights().all(|weight| Some(weight) == first) {
            Box::default()
        } else {
            weights()
                .scan(0_u64, |sum, weight| {
                    *sum += u64::from(weight);
                    Some(*sum)
                })
                .collect()
        };
        Self {
            targets: targets.into(),
            usable,
            cumulative,
            policy,
            protocol,
        }
    }

    /// Those that take requests (ready, not terminating), in order of address; some may be ejected.
    pub fn targets(&self) -> &[Target] {
        &self.targets[..self.usable]
    }

    /// All of them: those of [`Self::targets`], then the ones that take no requests.
    pub fn all(&self) -> &[Target] {
        &self.targets
    }

    /// Sum of the weights of [`Self::targets`]; their number when they all weigh the same.
    pub(crate) fn total_weight(&self) -> u64 {
        self.cumulative
            .last()
            .copied()
            .unwrap_or(self.usable as u64)
    }

    /// The target at `point` of `0..total_weight()`.
    pub(crate) fn at_weight(&self, point: u64) -> usize {
        if self.cumulative.is_empty() {
            point as usize
        } else {
            self.cumulative.partition_point(|sum| *sum <= point)
        }
    }

    /// One may always be out if there is another; beyond that the policy's percentage bounds it.
    fn may_eject_another(&self, now: Instant, policy: &OutlierDetection) -> bool {
        let all = self.usable as u64;
        let out = self
            .targets()
            .iter()
            .filter(|target| target.endpoint.state.is_ejected(now))
            .count() as u64;
        out == 0 || (out + 1) * 100 <= all * u64::from(policy.max_ejection_percent)
    }
}

impl Target {
    fn at(endpoint: Arc<Endpoint>, service_port: u16, protocol: Protocol) -> Option<Self> {
        let port = *endpoint
            .ports
            .iter()
            .find(|port| port.service_port == service_port)?;
        Some(Self {
            addr: SocketAddr::new(endpoint.address, port.port),
            mtls: port.mtls,
            protocol: match port.protocol {
                Protocol::Detect => protocol,
                known => known,
            },
            endpoint,
        })
    }
}
