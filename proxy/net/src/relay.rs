//! Opaque bytes both ways, each direction ended on its own.
//!
//! Owns the copying, its counters and its idle limit; knows neither peers nor policy. Bytes pass
//! through one scratch buffer per worker, so an idle connection owns no buffer: only what a slow
//! reader has not taken yet is kept apart.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The buffer that all relays of a worker share; borrowed within one poll only.
pub(crate) struct Scratch(RefCell<Box<[u8]>>);

impl Scratch {
    const SIZE: usize = 64 * 1024;

    pub(crate) fn new() -> Self {
        Self(RefCell::new(vec![0; Self::SIZE].into_boxed_slice()))
    }
}

/// How many bytes went each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// From the one who connected.
    pub(crate) up: u64,
    /// To the one who connected.
    pub(crate) down: u64,
}

/// Why a relay ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Both sides said they were done.
    Finished,
    /// Nothing moved for too long.
    Idle,
    /// The connecting side broke.
    Client(io::Error),
    /// The other side broke.
    Server(io::Error),
}

/// One direction.
struct Flow {
    state: State,
    /// Read and not yet taken by the reader: `kept[taken..]`.
    kept: Vec<u8>,
    taken: usize,
    carried: u64,
    unflushed: bool,
}

#[derive(PartialEq, Eq)]
enum State {
    Open,
    Closing,
    Closed,
}

/// Which side of a flow broke.
enum Broken {
    Source(io::Error),
    Sink(io::Error),
}

impl Flow {
    /// `ahead` was already read from the source.
    fn new(ahead: Vec<u8>) -> Self {
        Self {
            state: State::Open,
            carried: ahead.len() as u64,
            kept: ahead,
            taken: 0,
            unflushed: false,
        }
    }

    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        scratch: &mut [u8],
        moved: &mut bool,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if self.taken < self.kept.len() {
                let rest = &self.kept[self.taken..];
                let n = match Pin::new(&mut *sink).poll_write(cx, rest) {
                    Poll::Ready(written) => written_some(written)?,
                    Poll::Pending => return self.flush_then_wait(cx, sink),
                };
                *moved = true;
                self.unflushed = true;
                self.taken += n;
                continue;
            }
            if !self.kept.is_empty() {
                self.kept = Vec::new();
                self.taken = 0;
            }
            match self.state {
                State::Closed => return Poll::Ready(Ok(())),
                State::Closing => {
                    ready!(Pin::new(&mut *sink).poll_shutdown(cx)).map_err(Broken::Sink)?;
                    self.state = State::Closed;
                }
                State::Open => {
                    let mut buf = ReadBuf::new(scratch);
                    match Pin::new(&mut *source).poll_read(cx, &mut buf) {
                        Poll::Ready(read) => read.map_err(Broken::Source)?,
                        Poll::Pending => return self.flush_then_wait(cx, sink),
                    }
                    let read = buf.filled();
                    if read.is_empty() {
                        self.state = State::Closing;
                        continue;
                    }
                    *moved = true;
                    self.carried += read.len() as u64;
                    let written = match Pin::new(&mut *sink).poll_write(cx, read) {
                        Poll::Ready(written) => written_some(written)?,
                        Poll::Pending => 0,
                    };
                    self.unflushed = true;
                    self.kept.extend_from_slice(&read[written..]);
                }
            }
        }
    }

    /// Before waiting, what TLS holds back must go out.
    fn flush_then_wait<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut W,
    ) -> Poll<Result<(), Broken>> {
        if self.unflushed {
            ready!(Pin::new(sink).poll_flush(cx)).map_err(Broken::Sink)?;
            self.unflushed = false;
        }
        Poll::Pending
    }
}

fn written_some(written: io::Result<usize>) -> Result<usize, Broken> {
    match written {
        Ok(0) => Err(Broken::Sink(io::ErrorKind::WriteZero.into())),
        Ok(n) => Ok(n),
        Err(error) => Err(Broken::Sink(error)),
    }
}

/// Two connections tied together.
pub(crate) struct Relay<'a> {
    scratch: &'a Scratch,
    idle: Duration,
    up: Flow,
    down: Flow,
}

impl<'a> Relay<'a> {
    /// `greeting` was already read from the server's side and is owed to the client.
    pub(crate) fn new(scratch: &'a Scratch, idle: Duration, greeting: Vec<u8>) -> Self {
        Self {
            scratch,
            idle,
            up: Flow::new(Vec::new()),
            down: Flow::new(greeting),
        }
    }

    /// So far.
    pub(crate) fn carried(&self) -> Carried {
        Carried {
            up: self.up.carried,
            down: self.down.carried,
        }
    }

    /// Carries until both sides are done, one breaks, or nothing moves for the idle limit. Dropping
    /// the future ends the relay; [`Relay::carried`] still tells what went through.
    pub(crate) async fn run<C, S>(&mut self, client: &mut C, server: &mut S) -> End
    where
        C: AsyncRead + AsyncWrite + Unpin,
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut last_moved = Instant::now();
        let mut alarm = std::pin::pin!(sleep_until(last_moved + self.idle));
        poll_fn(|cx| {
            let mut moved = false;
            let end = self.poll(cx, client, server, &mut moved);
            if end.is_ready() {
                return end;
            }
            if moved {
                last_moved = Instant::now();
            }
            poll_alarm(cx, alarm.as_mut(), last_moved + self.idle)
        })
        .await
    }

    fn poll<C, S>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
        server: &mut S,
        moved: &mut bool,
    ) -> Poll<End>
    where
        C: AsyncRead + AsyncWrite + Unpin,
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let scratch = &mut *self.scratch.0.borrow_mut();
        let up = match self.up.poll(cx, client, server, scratch, moved) {
            Poll::Ready(Err(Broken::Source(error))) => return Poll::Ready(End::Client(error)),
            Poll::Ready(Err(Broken::Sink(error))) => return Poll::Ready(End::Server(error)),
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        let down = match self.down.poll(cx, server, client, scratch, moved) {
            Poll::Ready(Err(Broken::Source(error))) => return Poll::Ready(End::Server(error)),
            Poll::Ready(Err(Broken::Sink(error))) => return Poll::Ready(End::Client(error)),
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        if up && down {
            return Poll::Ready(End::Finished);
        }
        Poll::Pending
    }
}

/// The alarm is only moved when it rings: most connections never come near it.
fn poll_alarm(cx: &mut Context<'_>, mut alarm: Pin<&mut Sleep>, due: Instant) -> Poll<End> {
    while alarm.as_mut().poll(cx).is_ready() {
        if Instant::now() >= due {
            return Poll::Ready(End::Idle);
        }
        alarm.as_mut().reset(due);
    }
    Poll::Pending
}

#[cfg(test)]
mod tests;
