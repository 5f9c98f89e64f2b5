//! One resource of the API server: listed in pages, then watched, for ever.
//!
//! The list is a consistent read and the watch goes on from it, so nothing is missed; a watch that
//! ends is resumed where it ended. Listed again is only what the server does not remember that far
//! back (410), or what could not be read. What came of it goes to the channel, in order.
//!
//! A connection that died without a word is noticed by its silence: the server sends a bookmark
//! about once a minute.

use std::pin::Pin;
use std::time::Duration;

use futures_util::AsyncBufReadExt;
use futures_util::io::AsyncBufRead;
use kube::Client;
use kube::core::params::{ListParams, WatchParams};
use kube::core::{Request, Status};
use rand::Rng;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::decode::Decoded;
use super::health::Health;
use super::resource::Resource;
use super::wire::{Line, Page};

/// Objects in one answer to a list.
const PAGE: u32 = 500;
/// How long one page may take.
const PAGE_PATIENCE: Duration = Duration::from_secs(60);
/// Bookmarks come every minute.
const LONGEST_SILENCE: Duration = Duration::from_secs(75);
/// What a watch is granted beyond the time that the server was asked to end it at.
const GRACE: Duration = Duration::from_secs(5);
/// A watch that ends sooner, and without a word, is a failure.
const SHORTEST: Duration = Duration::from_secs(1);

/// What a watch has to say.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) resource: Resource,
    /// Which watch of the resource it was: one that has ended may have left some behind.
    pub(crate) watch: u64,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    /// A list begins: what it does not name is gone.
    Begun,
    /// Objects of the list.
    Page(Vec<Decoded>),
    /// The list has ended.
    Listed,
    Applied(Box<Decoded>),
    Deleted(Box<Decoded>),
}

/// The task of one resource.
pub(crate) struct Watch {
    pub(crate) client: Client,
    pub(crate) resource: Resource,
    pub(crate) number: u64,
    /// How long a watch lasts before the server is to end it.
    pub(crate) lifetime: Duration,
    pub(crate) news: mpsc::Sender<News>,
    pub(crate) health: Health,
}

/// Why it does not go on.
enum Trouble {
    /// Nobody listens any more.
    Unwanted,
    /// Worth another attempt.
    Failed {
        message: String,
        /// The position is of no use any more.
        lost: bool,
    },
}

impl From<&Status> for Trouble {
    fn from(status: &Status) -> Self {
        let mut causes = status.details.iter().flat_map(|details| &details.causes);
        // Or the server has yet to see that version: its data was restored from before.
        let is_ahead = causes.any(|cause| cause.reason == "ResourceVersionTooLarge");
        Self::Failed {
            lost: status.code == 410 || is_ahead,
            message: format!("{} ({})", status.message, status.code),
        }
    }
}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::from(&*status),
            other => failed(chain(&other)),
        }
    }
}

/// The error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}

type Lines = Pin<Box<dyn AsyncBufRead + Send>>;

impl Watch {
    /// Lists and watches until nobody listens.
    pub(crate) async fn run(self) {
        let mut pause = Pause::default();
        let mut position = None;
        // Once in a row it is the way of things, and no failure.
        let mut was_lost = false;
        loop {
            let result = self.follow(&mut position, &mut pause).await;
            let lost_before = std::mem::take(&mut was_lost);
            match result {
                Ok(()) => {}
                Err(Trouble::Unwanted) => return,
                Err(Trouble::Failed { message, lost }) => {
                    if lost {
                        position = None;
                        was_lost = true;
                    }
                    if lost && !lost_before {
                        tracing::debug!("{} is listed anew: {message}", self.resource);
                    } else {
                        self.health.failed(self.resource, &message);
                        sleep(pause.next()).await;
                    }
                }
            }
        }
    }

    /// Lists if need be, then watches until the watch ends.
    async fn follow(
        &self,
        position: &mut Option<String>,
        pause: &mut Pause,
    ) -> Result<(), Trouble> {
        let from = match position.clone() {
            Some(known) => known,
            None => self.list().await?,
        };
        *position = Some(from.clone());
        let begun = Instant::now();
        let mut lines = self.open(&from).await?;
        self.health.heard(self.resource);
        let mut text = Vec::new();
        while self.line(&mut lines, &mut text).await? {
            self.take(&text, position).await?;
            self.health.heard(self.resource);
            *pause = Pause::default();
        }
        if begun.elapsed() < SHORTEST {
            return Err(failed("the watch ended at once"));
        }
        *pause = Pause::default();
        Ok(())
    }

    /// Hands out everything that there is. Returns where a watch goes on.
    async fn list(&self) -> Result<String, Trouble> {
        self.send(What::Begun).await?;
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let request = Request::new(self.resource.path()).list(&params);
            let request = request.map_err(|error| failed(error.to_string()))?;
            let text = timeout(PAGE_PATIENCE, self.client.request_text(request)).await;
            let text = text.map_err(|_| failed("a list was not answered in time"))??;
            let page = Page::read(self.resource, &text)
                .map_err(|error| failed(format!("a list cannot be read: {error}")))?;
            drop(text);
            self.health.heard(self.resource);
            if !page.items.is_empty() {
                self.send(What::Page(page.items)).await?;
            }
            match page.metadata.r#continue.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => {
                    let version = page.metadata.resource_version;
                    let version = version.filter(|version| !version.is_empty());
                    let version = version.ok_or_else(|| failed("a list has no version"))?;
                    self.send(What::Listed).await?;
                    self.health.listed(self.resource);
                    return Ok(version);
                }
            }
        }
    }

    async fn open(&self, from: &str) -> Result<Lines, Trouble> {
        let params = WatchParams {
            timeout: Some(u32::try_from(self.lifetime.as_secs()).unwrap_or(u32::MAX)),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = Request::new(self.resource.path()).watch(&params, from);
        let request = request.map_err(|error| failed(error.to_string()))?;
        let lines = timeout(self.silence(), self.client.request_stream(request)).await;
        Ok(Box::pin(lines.map_err(|_| {
            failed("a watch was not answered in time")
        })??))
    }

    /// Reads the next whole line. False at the end of the watch.
    async fn line(&self, lines: &mut Lines, text: &mut Vec<u8>) -> Result<bool, Trouble> {
        text.clear();
        let read = timeout(self.silence(), lines.read_until(b'\n', text)).await;
        read.map_err(|_| failed("the watch has fallen silent"))?
            .map_err(|error| failed(format!("the watch broke: {}", chain(&error))))?;
        Ok(text.last() == Some(&b'\n'))
    }

    async fn take(&self, text: &[u8], position: &mut Option<String>) -> Result<(), Trouble> {
        let line = Line::read(self.resource, text).map_err(|error| Trouble::Failed {
            message: format!("an event cannot be read: {error}"),
            // It would be passed over otherwise.
            lost: true,
        })?;
        let mut reached = |version: Option<String>| {
            if let Some(version) = version.filter(|version| !version.is_empty()) {
                *position = Some(version);
            }
        };
        match line {
            Line::Applied(object) => {
                reached(object.version.clone());
                self.send(What::Applied(Box::new(object))).await
            }
            Line::Deleted(object) => {
                reached(object.version.clone());
                self.send(What::Deleted(Box::new(object))).await
            }
            Line::Bookmark(version) => {
                reached(Some(version));
                Ok(())
            }
            Line::Failed(status) => Err(Trouble::from(&*status)),
        }
    }

    /// After so long without a word the connection is dead.
    fn silence(&self) -> Duration {
        LONGEST_SILENCE.min(self.lifetime + GRACE)
    }

    async fn send(&self, what: What) -> Result<(), Trouble> {
        let news = News {
            resource: self.resource,
            watch: self.number,
            what,
        };
        let sent = self.news.send(news).await;
        sent.map_err(|_| Trouble::Unwanted)
    }
}

fn failed(message: impl Into<String>) -> Trouble {
    Trouble::Failed {
        message: message.into(),
        lost: false,
    }
}

/// How long to wait before the next attempt: doubled each time, and jittered, so that replicas and
/// watches do not come back all at once.
struct Pause(Duration);

impl Pause {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);

    fn next(&mut self) -> Duration {
        let pause = self.0.mul_f64(rand::rng().random_range(0.5..1.0));
        self.0 = (self.0 * 2).min(Self::LONGEST);
        pause
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self(Self::FIRST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut pause = Pause::default();
        let pauses: Vec<Duration> = (0..12).map(|_| pause.next()).collect();
        assert!(pauses[0] >= Pause::FIRST / 2 && pauses[0] < Pause::FIRST);
        assert!(pauses[11] >= Pause::LONGEST / 2 && pauses[11] < Pause::LONGEST);
    }
}
