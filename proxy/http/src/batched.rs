//! A byte stream under an HTTP/2 connection that writes once per turn instead of once per frame.
//!
//! h2 hands every DATA frame of more than 256 bytes to the stream and flushes it at once: with 32 answers ready in one
//! turn that would be 32 TLS records and 32 system calls. Here small writes are gathered, and a flush is put off until
//! whoever drives the connection has nothing more to do ([`Flusher::poll_flush`]). Large writes pass uncopied.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A write of so many bytes is worth its own system call.
const LARGE: usize = 8 * 1024;
/// So much is gathered before the stream itself must take it. One TLS record.
const FULL: usize = 16 * 1024;

/// The stream as h2 sees it.
#[derive(Debug)]
pub(crate) struct Batched<Io>(Rc<RefCell<Batch<Io>>>);

/// The driver's handle.
#[derive(Debug)]
pub(crate) struct Flusher<Io>(Rc<RefCell<Batch<Io>>>);

#[derive(Debug)]
struct Batch<Io> {
    io: Io,
    /// Gathered and not yet taken by `io`, from `taken` on.
    held: Vec<u8>,
    taken: usize,
    /// `io` has taken bytes that it may not have written yet: TLS keeps what the socket has no room for.
    unflushed: bool,
    /// Why what h2 took for written could not be.
    failed: Option<io::Error>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Batched<Io> {
    pub(crate) fn new(io: Io) -> (Self, Flusher<Io>) {
        let batch = Rc::new(RefCell::new(Batch {
            io,
            held: Vec::new(),
            taken: 0,
            unflushed: false,
            failed: None,
        }));
        (Self(batch.clone()), Flusher(batch))
    }
}

impl<Io: AsyncWrite + Unpin> Flusher<Io> {
    /// To be called whenever the connection is pending, with the waker of its task: writes what was gathered. What the
    /// stream does not take yet goes when it wakes the task; an error is h2's to find at its next turn.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) {
        let mut batch = self.0.borrow_mut();
        if let Poll::Ready(Err(error)) = batch.poll_flush(cx) {
            batch.failed = Some(error);
            cx.waker().wake_by_ref();
        }
    }
}

impl<Io: AsyncWrite + Unpin> Batch<Io> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.held.len() {
            self.unflushed = true;
            let rest = &self.held[self.taken..];
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.taken += taken,
            }
        }
        // Connections that rest keep no buffer.
        self.held = Vec::new();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if length >= LARGE || self.held.len() + length > FULL {
            ready!(self.poll_drain(cx))?;
        }
        if length >= LARGE {
            self.unflushed = true;
            return Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        }
        if self.held.is_empty() {
            self.held.reserve_exact(FULL);
        }
        for buf in bufs {
            self.held.extend_from_slice(buf);
        }
        Poll::Ready(Ok(length))
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Batched<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut batch = self.0.borrow_mut();
        if let Some(error) = batch.failed.take() {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut batch.io).poll_read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Batched<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_take(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_take(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The driver's to do.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut batch = self.0.borrow_mut();
        ready!(batch.poll_flush(cx))?;
        Pin::new(&mut batch.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    async fn flush(flusher: &Flusher<DuplexStream>) {
        poll_fn(|cx| {
            flusher.poll_flush(cx);
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn small_writes_go_together_when_the_driver_flushes() {
        let (near, mut far) = duplex(1024);
        let (mut io, flusher) = Batched::new(near);
        io.write_all(b"one ").await.unwrap();
        io.flush().await.unwrap();
        io.write_all(b"two").await.unwrap();
        let mut read = [0; 16];
        let early = futures_util::poll!(pin(&mut far, &mut read));
        assert!(early.is_pending());
        flush(&flusher).await;
        assert_eq!(far.read(&mut read).await.unwrap(), 7);
        assert_eq!(&read[..7], b"one two");
    }

    fn pin<'a>(
        far: &'a mut DuplexStream,
        read: &'a mut [u8],
    ) -> Pin<Box<dyn Future<Output = io::Result<usize>> + 'a>> {
        Box::pin(far.read(read))
    }

    #[tokio::test]
    async fn order_is_kept_when_a_large_write_follows_and_nothing_is_taken_beyond_what_fits() {
        let (near, mut far) = duplex(100);
        let (mut io, flusher) = Batched::new(near);
        io.write_all(b"first").await.unwrap();
        let large = vec![b'x'; LARGE];
        let writing = async {
            io.write_all(&large).await.unwrap();
            io.write_all(b"last").await.unwrap();
            io.shutdown().await.unwrap();
            drop((io, flusher));
        };
        let mut all = Vec::new();
        let (_, read) = tokio::join!(writing, far.read_to_end(&mut all));
        read.unwrap();
        assert_eq!(all.len(), 5 + LARGE + 4);
        assert!(all.starts_with(b"firstx") && all.ends_with(b"xlast"));
    }

    /// Takes everything, and passes it on when it is flushed for the second time, as TLS does over a full socket.
    #[derive(Default)]
    struct Reluctant {
        taken: Vec<u8>,
        flushes: u8,
    }

    impl AsyncRead for Reluctant {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Reluctant {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.taken.extend_from_slice(buf);
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            match self.flushes {
                1 => Poll::Pending,
                _ => Poll::Ready(Ok(())),
            }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_the_stream_took_is_flushed_until_it_has_gone_and_not_again() {
        for length in [4, LARGE] {
            let (mut io, flusher) = Batched::new(Reluctant::default());
            io.write_all(&vec![b'x'; length]).await.unwrap();
            for flushes in [1, 2, 2] {
                poll_fn(|cx| {
                    flusher.poll_flush(cx);
                    Poll::Ready(())
                })
                .await;
                assert_eq!(flusher.0.borrow().io.flushes, flushes, "{length}");
            }
            assert_eq!(flusher.0.borrow().io.taken.len(), length);
        }
    }

    #[tokio::test]
    async fn what_could_not_be_flushed_is_an_error_at_the_next_turn() {
        let (near, far) = duplex(100);
        let (mut io, flusher) = Batched::new(near);
        io.write_all(b"lost").await.unwrap();
        drop(far);
        flush(&flusher).await;
        let error = io.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
