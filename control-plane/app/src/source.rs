//! Where the world comes from, folders or a cluster: how either is opened, followed, and asked how
//! far it has come.

use anyhow::Context;
use weft_model::ObjectKey;
use weft_source::kubernetes::{Health, Observer, Revision, Shown, Watched};
use weft_source::{Batch, FolderSource, KubernetesSource, Refresher};

use crate::kubernetes;
use crate::settings::Sources;

pub(crate) enum Source {
    Folders(FolderSource),
    Kubernetes(KubernetesSource),
}

impl Source {
    /// Begins to read. What there is at first is the first batch.
    pub async fn start(settings: &Sources) -> anyhow::Result<Self> {
        if !settings.kubernetes {
            let source = FolderSource::start(settings.folders.clone());
            return Ok(Self::Folders(source.context("cannot read the sources")?));
        }
        let client = kubernetes::client().await?;
        let source = KubernetesSource::start(client, settings.watch_lifetime);
        Ok(Self::Kubernetes(source))
    }

    /// Waits for the next change; none when the source has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Batch> {
        match self {
            Self::Folders(source) => source.next().await,
            Self::Kubernetes(source) => source.next().await,
        }
    }

    /// A handle for questions.
    pub fn progress(&self) -> Progress {
        match self {
            Self::Folders(source) => Progress::Folders(source.refresher()),
            Self::Kubernetes(source) => Progress::Kubernetes {
                observer: source.observer(),
                health: source.health(),
                shown: source.shown(),
            },
        }
    }
}

/// How far a source has come.
pub(crate) enum Progress {
    Folders(Refresher),
    Kubernetes {
        observer: Observer,
        health: Health,
        shown: Shown,
    },
}

impl Progress {
    /// Waits until what somebody wrote before has been read: of folders everything that is on disk
    /// at the call, of a cluster the revision of the object that they name (none named: nothing is
    /// waited for). Returns the number of the last batch by then.
    pub async fn caught_up(&self, key: &ObjectKey, revision: Revision) -> Option<u64> {
        match self {
            Self::Folders(refresher) => refresher.refresh().await,
            Self::Kubernetes { .. } if revision == Revision::default() => None,
            Self::Kubernetes { observer, .. } => observer.reached(key.clone(), revision).await,
        }
    }

    /// How each watch of a cluster is doing.
    pub fn watched(&self) -> Vec<Watched> {
        match self {
            Self::Folders(_) => Vec::new(),
            Self::Kubernetes { health, .. } => health.watched(),
        }
    }

    /// The status that the objects of a cluster show.
    pub fn shown(&self) -> Option<Shown> {
        match self {
            Self::Folders(_) => None,
            Self::Kubernetes { shown, .. } => Some(shown.clone()),
        }
    }
}
