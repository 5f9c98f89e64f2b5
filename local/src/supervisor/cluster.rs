//! The one place where the mesh's state lies: what is wished for, which pods there are and how they
//! are. Pods report into it, the reconciler reads it; every change wakes the reconciler.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::endpoints::Resolved;
use crate::network::addresses::{Pair, PodAddresses, ServiceAddresses};
use crate::options::{Layout, Options};
use crate::pod::{lifecycle, proxy};
use crate::workload::{Desired, Key, PodTemplate};

/// How long a change may take to be published before others stop waiting for it.
const PUBLISH_LIMIT: Duration = Duration::from_secs(5);
/// How long a proxy may take to drain (design: "or 10 s").
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// What a pod is started with.
#[derive(Clone, Debug)]
pub struct PodOrder {
    /// Namespace and name.
    pub key: Key,
    /// Unique among all pods of this mesh.
    pub uid: String,
    /// The Deployment and its template's hash, when one made it.
    pub owner: Option<(Key, String)>,
    /// The link's name outside.
    pub veth: String,
    /// Addresses.
    pub addresses: Pair,
    /// Whether it has a proxy.
    pub meshed: bool,
    /// What it is made from.
    pub template: Arc<PodTemplate>,
    /// Cancelled when it is to go.
    pub delete: CancellationToken,
}

impl PodOrder {
    /// How long its proxy may drain.
    pub fn drain_limit(&self) -> Duration {
        DRAIN_LIMIT.min(Duration::from_secs(self.template.termination_grace_seconds))
    }
}

/// A pod as it is.
#[derive(Clone, Debug)]
pub struct PodState {
    /// What it was started with.
    pub order: PodOrder,
    /// When it was ordered.
    pub created: SystemTime,
    /// Grows with every pod.
    pub number: u64,
    /// When its deletion was asked for.
    pub deleting: Option<SystemTime>,
    /// Its processes by container name, the proxy among them.
    pub containers: BTreeMap<String, ContainerState>,
    /// The pause process.
    pub sandbox: Option<u32>,
    /// Why it could not be set up, last time.
    pub error: Option<String>,
}

/// One process.
#[derive(Clone, Debug, Default)]
pub struct ContainerState {
    /// Present while it runs.
    pub pid: Option<u32>,
    /// Started and good by its probes.
    pub ready: bool,
    /// Started again so often.
    pub restarts: u32,
}

impl PodState {
    /// Whether every container is.
    pub fn ready(&self) -> bool {
        self.containers.values().all(|container| container.ready)
    }
}

/// The control plane's process.
#[derive(Clone, Debug, Default)]
pub struct ControlPlaneState {
    /// Present while it runs.
    pub pid: Option<u32>,
    /// Started so often.
    pub starts: u32,
}

/// All of it.
#[derive(Debug, Default)]
pub struct State {
    /// From the folder.
    pub desired: Desired,
    /// Whether the folder has been read once.
    pub synced: bool,
    /// By UID.
    pub pods: BTreeMap<String, PodState>,
    /// Pods' addresses.
    pub pod_addresses: PodAddresses,
    /// Services' addresses.
    pub service_addresses: ServiceAddresses,
    /// How often each Deployment was asked to restart.
    pub restarts: BTreeMap<Key, u64>,
    /// The control plane.
    pub control_plane: ControlPlaneState,
    /// The Services as the reconciler last resolved them.
    pub services: Vec<Resolved>,
    /// What is wrong with the folder, for people.
    pub faults: Vec<String>,
    next_number: u64,
}

impl State {
    /// The pod of this name that is not going away, else the one that is.
    pub fn pod(&self, key: &Key) -> Option<&PodState> {
        self.pods
            .values()
            .filter(|pod| pod.order.key == *key)
            .min_by_key(|pod| pod.deleting.is_some())
    }
}

/// Shared by everything in the supervisor.
#[derive(Debug)]
pub struct Cluster {
    /// What the mesh was started with.
    pub options: Options,
    /// Where things lie.
    pub layout: Layout,
    state: Mutex<State>,
    /// Counts changes of the state.
    changed: watch::Sender<u64>,
    /// The last change that endpoints, addresses and names show.
    published: watch::Sender<u64>,
}

impl Cluster {
    /// An empty mesh.
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            layout: options.layout(),
            options,
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            published: watch::Sender::new(0),
        })
    }

    /// Looks at the state.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the state and wakes whoever waits for changes.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_modify(|count| *count += 1);
        result
    }

    /// Changes the state in a way that nobody else shows, such as handing out numbers.
    pub fn quietly<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug in one request; the state is whole between statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Said by the reconciler: everything up to this change is published.
    pub fn set_published(&self, change: u64) {
        self.published.send_replace(change);
    }

    /// Waits until the state as it is now is published.
    pub async fn published(&self) {
        let now = *self.changed.borrow();
        let mut published = self.published.subscribe();
        let _ = tokio::time::timeout(PUBLISH_LIMIT, published.wait_for(|seen| *seen >= now)).await;
    }

    /// Opens the log of this name.
    pub fn log(&self, name: &str) -> anyhow::Result<File> {
        lifecycle::open_log(&self.layout.logs().join(format!("{name}.log")))
    }

    /// How the pod of this order reports.
    pub fn report(self: &Arc<Self>, order: &PodOrder) -> PodReport {
        PodReport {
            cluster: self.clone(),
            uid: order.uid.clone(),
            key: order.key.clone(),
        }
    }

    /// Enters a new pod; `None` when there are no addresses left.
    pub fn order(
        &self,
        key: Key,
        owner: Option<(Key, String)>,
        template: Arc<PodTemplate>,
    ) -> Option<PodOrder> {
        self.update(|state| {
            let addresses = state.pod_addresses.take()?;
            state.next_number += 1;
            let number = state.next_number;
            let meshed = state.desired.meshed(&key.namespace, &template);
            let order = PodOrder {
                uid: uid(),
                veth: format!("veth{number}"),
                key,
                owner,
                addresses,
                meshed,
                template,
                delete: CancellationToken::new(),
            };
            let names = order
                .template
                .containers
                .iter()
                .map(|container| container.name.clone());
            let names = names.chain(meshed.then(|| proxy::CONTAINER.to_owned()));
            let pod = PodState {
                order: order.clone(),
                created: SystemTime::now(),
                number,
                deleting: None,
                containers: names
                    .map(|name| (name, ContainerState::default()))
                    .collect(),
                sandbox: None,
                error: None,
            };
            state.pods.insert(order.uid.clone(), pod);
            Some(order)
        })
    }

    /// Marks a pod as being deleted; its own task does the rest. Whether there was one.
    pub fn delete(&self, uid: &str) -> bool {
        self.update(|state| {
            let Some(pod) = state.pods.get_mut(uid) else {
                return false;
            };
            pod.deleting.get_or_insert_with(SystemTime::now);
            pod.order.delete.cancel();
            true
        })
    }
}

/// A random UID in the usual form (version 4).
fn uid() -> String {
    let mut bytes = rand::random::<[u8; 16]>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

/// How one pod's tasks write into the state.
#[derive(Clone, Debug)]
pub struct PodReport {
    cluster: Arc<Cluster>,
    uid: String,
    key: Key,
}

impl fmt::Display for PodReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

impl PodReport {
    fn pod(&self, change: impl FnOnce(&mut PodState)) {
        self.cluster.update(|state| {
            if let Some(pod) = state.pods.get_mut(&self.uid) {
                change(pod);
            }
        });
    }

    fn container(&self, name: &str, change: impl FnOnce(&mut ContainerState)) {
        self.pod(|pod| change(pod.containers.entry(name.to_owned()).or_default()));
    }

    /// The namespaces exist.
    pub fn sandbox(&self, pid: u32) {
        self.pod(|pod| (pod.sandbox, pod.error) = (Some(pid), None));
    }

    /// A process runs.
    pub fn started(&self, name: &str, pid: u32) {
        self.container(name, |container| container.pid = Some(pid));
    }

    /// A process has ended.
    pub fn ended(&self, name: &str) {
        self.container(name, |container| {
            (container.pid, container.ready) = (None, false)
        });
    }

    /// A process is about to be started again.
    pub fn restarting(&self, name: &str) {
        self.container(name, |container| container.restarts += 1);
    }

    /// A readiness probe changed its mind.
    pub fn ready(&self, name: &str, ready: bool) {
        self.container(name, |container| container.ready = ready);
    }

    /// The pod could not be set up.
    pub fn failed(&self, error: String) {
        self.pod(|pod| (pod.sandbox, pod.error) = (None, Some(error)));
    }

    /// Nothing of the pod is left.
    pub fn gone(&self) {
        self.cluster.update(|state| {
            if let Some(pod) = state.pods.remove(&self.uid) {
                state.pod_addresses.release(pod.order.addresses);
            }
        });
    }

    /// Waits until this container is ready.
    pub async fn container_ready(&self, name: &str) {
        let mut changes = self.cluster.changes();
        loop {
            changes.borrow_and_update();
            let ready = self.cluster.read(|state| {
                let pod = state.pods.get(&self.uid)?;
                Some(pod.containers.get(name)?.ready)
            });
            if ready == Some(true) {
                return;
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Waits until endpoints and addresses show that this pod is going away.
    pub async fn removal_published(&self) {
        self.cluster.published().await;
    }
}
