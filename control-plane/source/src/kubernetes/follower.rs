//! The task behind a source: owns the watches and the collection, hands out batches, answers those
//! who wait for a state of an object.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use kube::Client;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use weft_model::ObjectKey;

use super::collection::{Collection, Revision};
use super::health::Health;
use super::resource::Resource;
use super::shown::Shown;
use super::watch::{News, Watch, What};
use crate::batch::Batch;

/// News on their way from the watches; a page of a list is one. Beyond that the watches wait.
const NEWS_AHEAD: usize = 64;
/// News that go into one batch at most, though more are there.
const NEWS_PER_BATCH: usize = 1024;

/// Somebody waits until the object is known in that state.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) key: ObjectKey,
    pub(crate) revision: Revision,
    /// Gets the number of the batch by which it is.
    pub(crate) answer: oneshot::Sender<u64>,
}

/// The state of the task.
pub(crate) struct Follower {
    client: Client,
    watch_lifetime: Duration,
    health: Health,
    collection: Collection,
    watches: HashMap<Resource, Running>,
    /// Those that have been listed to their end.
    listed: HashSet<Resource>,
    tasks: JoinSet<()>,
    watches_begun: u64,
    to_news: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    batches: mpsc::Sender<Batch>,
    questions: mpsc::Receiver<Question>,
    waiting: Vec<Question>,
}

/// A watch that runs.
struct Running {
    number: u64,
    task: AbortHandle,
}

impl Follower {
    pub(crate) fn new(
        client: Client,
        watch_lifetime: Duration,
        health: Health,
        batches: mpsc::Sender<Batch>,
        questions: mpsc::Receiver<Question>,
    ) -> Self {
        let (to_news, news) = mpsc::channel(NEWS_AHEAD);
        Self {
            client,
            watch_lifetime,
            health,
            collection: Collection::default(),
            watches: HashMap::new(),
            listed: HashSet::new(),
            tasks: JoinSet::new(),
            watches_begun: 0,
            to_news,
            news,
            batches,
            questions,
            waiting: Vec::new(),
        }
    }

    /// The status that objects show.
    pub(crate) fn shown(&self) -> Shown {
        self.collection.shown()
    }

    /// Runs until nobody takes batches any more.
    pub(crate) async fn run(mut self) {
        for resource in Resource::BUILT_IN {
            self.begin(resource);
        }
        let mut come = Vec::new();
        loop {
            // What is there by now goes together; nothing waits for more.
            tokio::select! {
                _ = self.news.recv_many(&mut come, NEWS_PER_BATCH) => {
                    for news in come.drain(..) {
                        self.take(news);
                    }
                    if !self.hand_out().await {
                        return;
                    }
                }
                Some(question) = self.questions.recv() => self.waiting.push(question),
                Some(ended) = self.tasks.join_next() => {
                    if ended.is_err_and(|error| error.is_panic()) {
                        tracing::error!("the watch of a resource panicked");
                        return;
                    }
                }
                () = self.batches.closed() => return,
            }
            self.answer();
        }
    }

    fn begin(&mut self, resource: Resource) {
        self.watches_begun += 1;
        let number = self.watches_begun;
        self.health.begun(resource);
        let watch = Watch {
            client: self.client.clone(),
            resource,
            number,
            lifetime: self.watch_lifetime,
            news: self.to_news.clone(),
            health: self.health.clone(),
        };
        let task = self.tasks.spawn(watch.run());
        self.watches.insert(resource, Running { number, task });
    }

    fn end(&mut self, resource: Resource) {
        if let Some(running) = self.watches.remove(&resource) {
            running.task.abort();
        }
        self.listed.remove(&resource);
        self.health.ended(resource);
        self.collection.drop_all(resource);
    }

    fn take(&mut self, news: News) {
        let resource = news.resource;
        let running = self.watches.get(&resource);
        if running.is_none_or(|running| running.number != news.watch) {
            return;
        }
        match news.what {
            What::Begun => self.collection.begin(resource),
            What::Page(objects) => {
                for object in objects {
                    self.collection.apply(resource, object);
                }
            }
            What::Listed => {
                self.collection.listed(resource);
                self.listed.insert(resource);
            }
            What::Applied(object) => self.collection.apply(resource, *object),
            What::Deleted(object) => self.collection.delete(resource, &object),
        }
        let knows_definitions = self.listed.contains(&Resource::CustomResourceDefinition);
        if resource == Resource::CustomResourceDefinition && knows_definitions {
            self.follow_definitions();
        }
    }

    /// Watches the custom resources that there are, and no others.
    fn follow_definitions(&mut self) {
        let served: HashSet<Resource> = self.collection.served().collect();
        for resource in Resource::CUSTOM {
            match (
                served.contains(&resource),
                self.watches.contains_key(&resource),
            ) {
                (true, false) => self.begin(resource),
                (false, true) => self.end(resource),
                _ => {}
            }
        }
    }

    /// Hands out what is news, once everything has been listed. False when nobody takes it.
    async fn hand_out(&mut self) -> bool {
        let is_complete = || {
            let mut watched = self.watches.keys();
            watched.all(|resource| self.listed.contains(resource))
        };
        if self.collection.batches() == 0 && !is_complete() {
            return true;
        }
        match self.collection.batch() {
            Some(batch) => self.batches.send(batch).await.is_ok(),
            None => true,
        }
    }

    fn answer(&mut self) {
        let number = self.collection.batches();
        if number == 0 {
            return;
        }
        let (reached, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .filter(|question| !question.answer.is_closed())
            .partition(|question| {
                self.collection
                    .has_reached(&question.key, &question.revision)
            });
        self.waiting = waiting;
        let reached: Vec<Question> = reached;
        for question in reached {
            // Fails when nobody waits any more.
            let _ = question.answer.send(number);
        }
    }
}
