//! When a burst of changes is over. Editors and copies touch a file several times; a look in the
//! middle would see it half-written.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};

/// After the last change, when nothing is being written.
const QUIET: Duration = Duration::from_millis(10);
/// After the last change, when a file that was written to has not been closed.
const WRITING: Duration = Duration::from_millis(100);
/// After the first change, whatever still goes on.
const LONGEST: Duration = Duration::from_millis(250);

/// Changes that belong together.
#[derive(Debug, Default)]
pub(super) struct Burst {
    first_and_last: Option<(Instant, Instant)>,
    /// Files that were written to and not closed since.
    writing: BTreeSet<PathBuf>,
}

impl Burst {
    /// Takes in an event.
    pub(super) fn note(&mut self, event: &notify::Event, now: Instant) {
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) => {
                for path in &event.paths {
                    self.writing.remove(path);
                }
            }
            EventKind::Modify(ModifyKind::Data(_)) => {
                self.writing.extend(event.paths.iter().cloned());
            }
            // Reading, our own looks among it, changes nothing.
            EventKind::Access(_) => return,
            _ => {}
        }
        let first = self.first_and_last.map_or(now, |(first, _)| first);
        self.first_and_last = Some((first, now));
    }

    /// When it is over; none while there was no change.
    pub(super) fn due(&self) -> Option<Instant> {
        let (first, last) = self.first_and_last?;
        let calm = if self.writing.is_empty() {
            QUIET
        } else {
            WRITING
        };
        Some((last + calm).min(first + LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange};

    const START: EventKind = EventKind::Create(CreateKind::File);
    const WRITE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSE: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const READ: EventKind = EventKind::Access(AccessKind::Open(AccessMode::Any));

    /// When, after the first event, a burst of events (at milliseconds) is over.
    fn over_after(events: &[(u64, EventKind)]) -> Option<Duration> {
        let start = Instant::now();
        let mut burst = Burst::default();
        for (at, kind) in events {
            let event = notify::Event::new(*kind).add_path("a.yaml".into());
            burst.note(&event, start + Duration::from_millis(*at));
        }
        burst.due().map(|due| due - start)
    }

    #[test]
    fn a_burst_ends_soon_after_the_file_is_closed_and_never_late() {
        let millis = |ms| Some(Duration::from_millis(ms));
        assert_eq!(over_after(&[]), None);
        assert_eq!(over_after(&[(0, READ)]), None);
        assert_eq!(
            over_after(&[(0, START), (1, WRITE), (2, CLOSE)]),
            millis(12)
        );
        assert_eq!(over_after(&[(0, START), (5, WRITE)]), millis(105));
        assert_eq!(
            over_after(&[(0, WRITE), (90, WRITE), (180, WRITE)]),
            millis(250)
        );
        assert_eq!(
            over_after(&[(0, WRITE), (90, WRITE), (95, CLOSE), (99, READ)]),
            millis(105)
        );
    }
}
