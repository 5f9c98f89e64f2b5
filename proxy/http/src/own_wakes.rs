//! Wake-ups that a task gives itself while it runs: counted instead of scheduled.
//!
//! A connection and its streams run in one task. What a stream writes wakes the connection, what the connection reads
//! wakes streams, and each would put the task into the queue once more although it is about to look anyway. Inside
//! [`OwnWakes::turns`] such wake-ups only ask for another turn; all others go to the task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Turns before others get theirs: a task that is out of its budget wakes itself without end.
const TURNS: usize = 4;

/// The waker of one task's parts.
#[derive(Debug)]
pub(crate) struct OwnWakes {
    state: Arc<State>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct State {
    task: AtomicWaker,
    running: AtomicBool,
    again: AtomicBool,
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.again.store(true, Ordering::SeqCst);
        if !self.running.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

impl OwnWakes {
    pub(crate) fn new() -> Self {
        let state = Arc::new(State::default());
        Self {
            waker: state.clone().into(),
            state,
        }
    }

    /// Takes turns until one brings a result or no part asks for another.
    pub(crate) fn turns<T>(
        &self,
        cx: &mut Context<'_>,
        mut turn: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.state.task.register(cx.waker());
        self.state.running.store(true, Ordering::SeqCst);
        let mut parts = Context::from_waker(&self.waker);
        let mut outcome = Poll::Pending;
        for _ in 0..TURNS {
            self.state.again.store(false, Ordering::SeqCst);
            outcome = turn(&mut parts);
            if outcome.is_ready() || !self.state.again.load(Ordering::SeqCst) {
                break;
            }
        }
        self.state.running.store(false, Ordering::SeqCst);
        if outcome.is_pending() && self.state.again.load(Ordering::SeqCst) {
            cx.waker().wake_by_ref();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn wakes_from_within_are_turns_and_bounded_and_those_from_outside_wake_the_task() {
        let (wakes, turns, polls) = (OwnWakes::new(), Cell::new(0), Cell::new(0));
        poll_fn(|cx| {
            polls.set(polls.get() + 1);
            wakes.turns(cx, |cx| {
                turns.set(turns.get() + 1);
                cx.waker().wake_by_ref();
                if turns.get() == 10 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
        })
        .await;
        assert_eq!((turns.get(), polls.get()), (10, 3));

        let (send, mut receive) = tokio::sync::oneshot::channel();
        let outside = std::thread::spawn(move || send.send(7).unwrap());
        let got =
            poll_fn(|cx| wakes.turns(cx, |cx| std::pin::Pin::new(&mut receive).poll(cx))).await;
        assert_eq!(got.unwrap(), 7);
        outside.join().unwrap();
    }
}
