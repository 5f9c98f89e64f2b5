//! Bodies that may have to be sent again: streamed to the first attempt as they come, kept meanwhile up to a
//! limit, read again from what was kept by the next.
//!
//! Input: the client's body. Output: one [`Body`] per attempt; only the newest may read. Once more than the limit
//! (or than the process's [`ByteBudget`]) has come, nothing is kept and there is no further attempt.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};

use crate::body::{Body, BodyError};
use crate::budget::{ByteBudget, Share};

/// A request's body, for as many attempts as it takes.
#[derive(Debug)]
pub(crate) enum ReplayBody {
    /// There is none.
    Empty,
    /// There is one.
    Kept(Rc<RefCell<Kept>>),
}

#[derive(Debug)]
pub(crate) struct Kept {
    source: Body,
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    ended: bool,
    broken: bool,
    /// Something of it was read and is not kept.
    lost: bool,
    limit: usize,
    share: Share,
    /// Which attempt may read.
    attempt: u32,
}

impl ReplayBody {
    pub(crate) fn new(source: Body, limit: u64, budget: &ByteBudget) -> Self {
        if source.is_end_stream() {
            return Self::Empty;
        }
        Self::Kept(Rc::new(RefCell::new(Kept {
            source,
            chunks: Vec::new(),
            trailers: None,
            ended: false,
            broken: false,
            lost: false,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            share: budget.share(),
            attempt: 0,
        })))
    }

    /// The body for the next attempt. Earlier ones read no further.
    pub(crate) fn attempt(&self) -> Body {
        match self {
            Self::Empty => Body::empty(),
            Self::Kept(kept) => {
                let mut state = kept.borrow_mut();
                state.attempt += 1;
                Body::replay(Replay {
                    kept: kept.clone(),
                    attempt: state.attempt,
                    next: 0,
                    done: false,
                })
            }
        }
    }

    /// Can all of it be sent once more?
    pub(crate) fn is_replayable(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Kept(kept) => {
                let kept = kept.borrow();
                !kept.lost && !kept.broken
            }
        }
    }

    /// The client broke it off.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self, Self::Kept(kept) if kept.borrow().broken)
    }
}

impl Kept {
    fn keep(&mut self, chunk: &Bytes) {
        let fits = !self.lost
            && self.share.bytes() + chunk.len() <= self.limit
            && self.share.grow(chunk.len());
        if fits {
            self.chunks.push(chunk.clone());
        } else {
            self.lost = true;
            self.chunks = Vec::new();
            self.share.clear();
        }
    }
}

/// One attempt's reading of a kept body.
#[derive(Debug)]
pub(crate) struct Replay {
    kept: Rc<RefCell<Kept>>,
    attempt: u32,
    next: usize,
    done: bool,
}

impl Replay {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let kept = &mut *self.kept.borrow_mut();
        if self.done {
            return Poll::Ready(None);
        }
        if kept.attempt != self.attempt || kept.broken {
            return Poll::Ready(Some(Err(BodyError::ClientGone)));
        }
        if let Some(chunk) = kept.chunks.get(self.next) {
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if kept.ended {
            self.done = true;
            return Poll::Ready(
                kept.trailers
                    .clone()
                    .map(|trailers| Ok(Frame::trailers(trailers))),
            );
        }
        let frame = match ready!(Pin::new(&mut kept.source).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                kept.broken = true;
                return Poll::Ready(Some(Err(error)));
            }
            None => {
                kept.ended = true;
                self.done = true;
                return Poll::Ready(None);
            }
        };
        if let Some(data) = frame.data_ref() {
            kept.keep(data);
            self.next = kept.chunks.len();
            kept.ended = kept.source.is_end_stream();
            self.done = kept.ended;
        } else if let Some(trailers) = frame.trailers_ref() {
            kept.trailers = Some(trailers.clone());
            kept.ended = true;
            self.done = true;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        if self.done {
            return true;
        }
        let kept = self.kept.borrow();
        kept.ended && kept.trailers.is_none() && self.next >= kept.chunks.len()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn text(body: Body) -> String {
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_body_is_read_again_by_the_next_attempt_and_by_no_earlier_one() {
        let budget = ByteBudget::new(100);
        let body = ReplayBody::new(Body::full(Bytes::from_static(b"hello")), 10, &budget);
        let early = body.attempt();
        assert_eq!(text(body.attempt()).await, "hello");
        assert!(body.is_replayable());
        assert_eq!(text(body.attempt()).await, "hello");
        assert!(early.collect().await.is_err());
        assert_eq!(budget.used(), 5);
        drop(body);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn what_is_over_the_limit_or_the_budget_is_sent_once() {
        for (limit, process) in [(4, 100), (100, 4)] {
            let budget = ByteBudget::new(process);
            let body = ReplayBody::new(Body::full(Bytes::from_static(b"hello")), limit, &budget);
            assert!(body.is_replayable(), "nothing of it was read yet");
            assert_eq!(text(body.attempt()).await, "hello");
            assert!(!body.is_replayable());
            assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn no_body_needs_no_keeping() {
        let body = ReplayBody::new(Body::empty(), 0, &ByteBudget::new(0));
        assert!(matches!(body, ReplayBody::Empty));
        assert!(body.is_replayable());
    }
}
