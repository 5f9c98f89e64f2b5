//! A Kubernetes API server → the world's objects, and every change of them.
//!
//! Owns the watches, the projection of what they bring while it is decoded, and what is a change.
//! Does not know what objects mean together, nor writes anything.
//!
//! - `resource`: what is read. `watch`: one of these, listed and watched for ever.
//! - `wire`, `decode`, `projection`: JSON → the model, object by object, skipping what nobody
//!   reads. `interner`: equal texts once.
//! - `collection`: everything together; what is news. `definitions`: which custom resources exist.
//! - `shown`: the status that objects have, for who writes it.
//! - `follower`: the task that owns it all. `health`: how the watches are doing.
//!
//! No full object is kept: of a pod there is what [`weft_model::Pod`] says.

mod collection;
mod decode;
mod definitions;
mod follower;
mod health;
mod interner;
mod projection;
mod resource;
mod shown;
mod watch;
mod wire;

use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use weft_api::{Recognised, recognise};
use weft_model::{Diagnostic as Finding, FieldPath, ObjectKey, Reason, Severity};

use crate::batch::Batch;
use crate::diagnostic::Diagnostic;
use crate::folder::Loaded;
use crate::locate::Locator;
use crate::objects::Objects;
use crate::read::subject;
use collection::Collection;
use follower::{Follower, Question};
use resource::Resource;

pub use collection::Revision;
pub use health::{Health, Watched};
pub use shown::{Shown, Status};

/// How many batches may wait for their reader; further changes wait at the watches.
const BATCHES_AHEAD: usize = 8;
/// Questions of waiters that are on their way.
const QUESTIONS_AHEAD: usize = 64;

/// The objects of a cluster, followed as they change. Dropping it ends all watches.
#[derive(Debug)]
pub struct KubernetesSource {
    batches: mpsc::Receiver<Batch>,
    observer: Observer,
    health: Health,
    shown: Shown,
    _follower: JoinSet<()>,
}

impl KubernetesSource {
    /// Starts to watch. `watch_lifetime` is how long one watch lasts before it is begun anew where
    /// it ended; a connection that is dead is found out by then, or by a minute's silence.
    ///
    /// The first batch comes when every resource has been listed once; those whose CRD is not
    /// there count as empty. An API server that is gone is waited for, and changes nothing.
    ///
    /// Must be called within a tokio runtime.
    pub fn start(client: Client, watch_lifetime: Duration) -> Self {
        let (hand_out, batches) = mpsc::channel(BATCHES_AHEAD);
        let (ask, questions) = mpsc::channel(QUESTIONS_AHEAD);
        let health = Health::default();
        let follower = Follower::new(client, watch_lifetime, health.clone(), hand_out, questions);
        let shown = follower.shown();
        let mut task = JoinSet::new();
        task.spawn(follower.run());
        Self {
            batches,
            observer: Observer(ask),
            health,
            shown,
            _follower: task,
        }
    }

    /// Waits for the next change; none when the watches have ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Batch> {
        self.batches.recv().await
    }

    /// A handle by which others wait for a state of an object.
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// The status that objects show.
    pub fn shown(&self) -> Shown {
        self.shown.clone()
    }

    /// How the watches are doing.
    pub fn health(&self) -> Health {
        self.health.clone()
    }
}

/// Asks a source how far it has come. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Observer(mpsc::Sender<Question>);

impl Observer {
    /// Returns when the object has been seen in that state or a later one, with the number of the
    /// last [`Batch`] by then, which may still wait to be taken. None when the source has ended.
    pub async fn reached(&self, key: ObjectKey, revision: Revision) -> Option<u64> {
        let (answer, number) = oneshot::channel();
        let question = Question {
            key,
            revision,
            answer,
        };
        self.0.send(question).await.ok()?;
        number.await.ok()
    }
}

/// The world of objects as an API server returns them, such as the items of `kubectl get -o json`.
/// Total: what cannot be read is a diagnostic, what a mesh has no use for is passed over.
pub fn load(objects: &[Value]) -> Loaded {
    let mut collection = Collection::default();
    let mut unreadable = Vec::new();
    for value in objects {
        let word = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or("");
        let (api_version, kind) = (word("/apiVersion"), word("/kind"));
        let resource = match recognise(api_version, kind) {
            Recognised::Read(kind) => Resource::Object(kind),
            _ if (api_version, kind) == ("v1", "Node") => Resource::Node,
            _ => continue,
        };
        match resource.read(value) {
            Ok(decoded) => collection.apply(resource, decoded),
            Err(error) => unreadable.push(Locator::default().locate(&Finding {
                subject: subject(kind, word("/metadata/namespace"), word("/metadata/name")),
                field: FieldPath::default(),
                severity: Severity::Error,
                reason: Reason::InvalidValue,
                message: error.to_string(),
            })),
        }
    }
    let batch = collection.batch().unwrap_or_default();
    let mut diagnostics: Vec<Diagnostic> = batch.diagnostics;
    diagnostics.extend(unreadable);
    diagnostics.sort();
    Loaded {
        world: collection.world(),
        objects: Objects::default(),
        diagnostics,
        locator: batch.locator,
    }
}
