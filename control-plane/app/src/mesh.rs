//! The world as this process knows it: batches of the source go in, get compiled and published;
//! questions about objects are answered.

mod facts;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use weft_compile::{Compiler, Settings, Snapshot};
use weft_identity::{PodRef, TrustDomain};
use weft_model::{Change, FieldPath, Kind, Object, ObjectKey, Severity, Spec, Subject};
use weft_source::kubernetes::{Revision, Watched};
use weft_source::{Batch, Diagnostic, Locator};
use weft_xds::{Epoch, Server};

use crate::coalescer::Coalescer;
use crate::findings::{Finding, FindingLog};
use crate::source::{Progress, Source};

pub(crate) use facts::{Facts, Refusals};

/// What the certificate service needs to know about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodFacts {
    pub service_account: Arc<str>,
    /// Empty where the source has none.
    pub uid: Arc<str>,
    pub addresses: Vec<IpAddr>,
}

pub(crate) struct Mesh {
    state: Mutex<State>,
    server: Server,
    /// Counts what was taken in.
    changed: watch::Sender<u64>,
    /// The number of the last batch that is compiled and published.
    published: watch::Sender<u64>,
    progress: OnceLock<Progress>,
}

struct State {
    compiler: Compiler,
    /// By object: the epoch in which its present content was compiled.
    epochs: HashMap<ObjectKey, Epoch>,
    source_diagnostics: Vec<Diagnostic>,
    locator: Locator,
    log: FindingLog,
}

impl Mesh {
    pub fn new(settings: Settings, server: Server) -> Self {
        Self {
            state: Mutex::new(State {
                compiler: Compiler::new(settings),
                epochs: HashMap::new(),
                source_diagnostics: Vec::new(),
                locator: Locator::default(),
                log: FindingLog::default(),
            }),
            server,
            changed: watch::Sender::new(0),
            published: watch::Sender::new(0),
            progress: OnceLock::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the source lists first; streams are served from then on.
    pub fn open(&self, batch: Batch) {
        self.state().take_diagnostics(&batch);
        self.take_in(batch.changes, batch.number);
    }

    /// Says whom to ask how far the source has come. Of the first to be named: there is one source.
    pub fn reads(&self, progress: Progress) {
        let _ = self.progress.set(progress);
    }

    /// Follows the source until it ends.
    pub async fn follow(&self, mut source: Source) {
        let mut waiting = Coalescer::default();
        let mut number = 0;
        loop {
            let due = waiting.due();
            let timer = sleep_until(due.unwrap_or_else(Instant::now));
            tokio::select! {
                batch = source.next() => match batch {
                    Some(batch) => {
                        number = batch.number;
                        self.state().take_diagnostics(&batch);
                        if due.is_none() && batch.changes.is_empty() {
                            self.published.send_replace(number);
                        } else {
                            waiting.add(batch.changes, Instant::now());
                        }
                    }
                    None => return,
                },
                () = timer, if due.is_some() => self.take_in(waiting.take(), number),
            }
        }
    }

    /// Returns when what somebody wrote before is published; see [`Progress::caught_up`].
    pub async fn catch_up(&self, key: &ObjectKey, revision: Revision) {
        let mut published = self.published.subscribe();
        let Some(progress) = self.progress.get() else {
            return;
        };
        if let Some(number) = progress.caught_up(key, revision).await {
            // An error means that this mesh is being dropped.
            let _ = published.wait_for(|published| *published >= number).await;
        }
    }

    /// How each watch of the source is doing.
    pub fn watched(&self) -> Vec<Watched> {
        self.progress.get().map_or_else(Vec::new, Progress::watched)
    }

    /// Compiles and publishes.
    fn take_in(&self, changes: Vec<Change>, number: u64) {
        let mut state = self.state();
        let renewed = state.renewed(&changes);
        let gone = changes.iter().filter_map(|change| match change {
            Change::Delete(key) => Some(key.clone()),
            Change::Upsert(_) => None,
        });
        let gone: Vec<ObjectKey> = gone.collect();
        let first = !self.server.is_ready();
        let delta = state.compiler.apply(changes);
        let snapshot = Arc::new(state.compiler.snapshot().clone());
        let epoch = self.server.publish(snapshot, (!first).then_some(&delta));
        for key in gone {
            state.epochs.remove(&key);
        }
        for key in renewed {
            state.epochs.insert(key, epoch.clone());
        }
        state.update_log();
        tracing::debug!(%epoch, changed = delta.changed.len(), removed = delta.removed.len(), "published");
        drop(state);
        self.changed.send_modify(|count| *count += 1);
        self.published.send_replace(number);
    }

    /// Changes whenever an answer of this may.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What is known of a pod. `None`: no such pod.
    pub fn pod(&self, pod: &PodRef) -> Option<PodFacts> {
        let key = ObjectKey::new(Kind::Pod, pod.namespace(), pod.name());
        match &self.state().compiler.world().object(&key)?.spec {
            Spec::Pod(pod) => Some(PodFacts {
                service_account: Arc::clone(&pod.service_account),
                uid: Arc::clone(&pod.uid),
                addresses: pod.ips.clone(),
            }),
            _ => None,
        }
    }

    /// The pods that run a proxy.
    pub fn meshed_pods(&self) -> Vec<PodRef> {
        let state = self.state();
        let pods = state.compiler.world().of_kind(Kind::Pod);
        let meshed = pods.filter(|pod| matches!(&pod.spec, Spec::Pod(pod) if pod.meshed));
        meshed
            .filter_map(|pod| PodRef::new(&pod.key.namespace, &pod.key.name).ok())
            .collect()
    }

    /// The namespaces that are in the mesh: by their label, or because a pod in them runs a proxy.
    pub fn mesh_namespaces(&self) -> BTreeSet<String> {
        let state = self.state();
        let world = state.compiler.world();
        let labelled = world.of_kind(Kind::Namespace).filter(
            |object| matches!(&object.spec, Spec::Namespace(namespace) if namespace.is_in_mesh()),
        );
        let meshed = world
            .of_kind(Kind::Pod)
            .filter(|object| matches!(&object.spec, Spec::Pod(pod) if pod.meshed));
        let labelled = labelled.map(|object| object.key.name.to_string());
        let meshed = meshed.map(|object| object.key.namespace.to_string());
        labelled.chain(meshed).collect()
    }

    /// By namespace, its annotations that begin so, where there are any.
    pub fn namespace_annotations(
        &self,
        prefix: &str,
    ) -> BTreeMap<String, BTreeMap<String, String>> {
        let state = self.state();
        let namespaces = state.compiler.world().of_kind(Kind::Namespace);
        let with_annotations = namespaces.filter_map(|object| {
            let Spec::Namespace(namespace) = &object.spec else {
                return None;
            };
            let annotations = namespace.annotations.iter();
            let ours = annotations.filter(|(key, _)| key.starts_with(prefix));
            let ours = ours.map(|(key, value)| (key.to_string(), value.to_string()));
            let ours: BTreeMap<String, String> = ours.collect();
            (!ours.is_empty()).then(|| (object.key.name.to_string(), ours))
        });
        with_annotations.collect()
    }

    /// The epoch in which the object's present content was compiled. `None`: no such object.
    pub fn epoch_of(&self, key: &ObjectKey) -> Option<Epoch> {
        self.state().epochs.get(key).cloned()
    }

    /// How many objects there are of each kind.
    pub fn objects(&self) -> Vec<(Kind, usize)> {
        let state = self.state();
        let count = |kind| (kind, state.compiler.world().of_kind(kind).count());
        Kind::ALL.into_iter().map(count).collect()
    }

    /// The trust domain of all pods.
    pub fn trust_domain(&self) -> TrustDomain {
        self.state().compiler.snapshot().trust_domain().clone()
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Snapshot {
        self.state().compiler.snapshot().clone()
    }

    /// Everything that is wrong: source, compile, then what proxies refused.
    pub fn findings(&self) -> Vec<Finding> {
        let located = self.state().located();
        let mut findings: Vec<Finding> = located.iter().map(Finding::from).collect();
        for proxy in self.server.proxies() {
            findings.extend(proxy.refused.iter().map(Finding::from));
        }
        findings
    }

    /// What keeps an object, as it is written now, from being read: errors of the source in it, or
    /// in its file as a whole.
    pub fn unreadable(&self, key: &ObjectKey) -> Vec<Finding> {
        let state = self.state();
        let object = Subject::from(key);
        let place = state.locator.place(&object, &FieldPath::default());
        let file = place.map(|place| place.file);
        let of_object = |diagnostic: &&Diagnostic| {
            let about = match &diagnostic.subject {
                Some(subject) => *subject == object,
                None => {
                    file.is_some() && diagnostic.place.as_ref().map(|p| &p.file) == file.as_ref()
                }
            };
            about && diagnostic.severity == Severity::Error
        };
        let diagnostics = state.source_diagnostics.iter().filter(of_object);
        diagnostics.map(Finding::from).collect()
    }
}

impl State {
    fn take_diagnostics(&mut self, batch: &Batch) {
        self.source_diagnostics.clone_from(&batch.diagnostics);
        self.locator = batch.locator.clone();
        if batch.changes.is_empty() {
            self.update_log();
        }
    }

    /// The objects whose content these changes make another.
    fn renewed(&self, changes: &[Change]) -> Vec<ObjectKey> {
        let world = self.compiler.world();
        let is_new = |new: &Arc<Object>| {
            let old = world.object(&new.key);
            old.is_none_or(|old| old.spec != new.spec || old.problems != new.problems)
        };
        let upserts = changes.iter().filter_map(|change| match change {
            Change::Upsert(object) => Some(object),
            Change::Delete(_) => None,
        });
        upserts
            .filter(|o| is_new(o))
            .map(|o| o.key.clone())
            .collect()
    }

    fn located(&self) -> BTreeSet<Diagnostic> {
        let compiled = self.compiler.diagnostics();
        let compiled = compiled.iter().map(|finding| self.locator.locate(finding));
        let read = self.source_diagnostics.iter();
        let read = read.filter(|finding| !self.compiler.is_others(finding.subject.as_ref()));
        read.cloned().chain(compiled).collect()
    }

    fn update_log(&mut self) {
        let located = self.located();
        self.log.update(located);
    }
}
