//! A byte stream that counts what passes: what tells a silent peer from a busy one, and a request that may have left
//! from one that has not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_proxy_net::Io;

/// Bytes so far, either way. Written by one thread only.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    written: AtomicU64,
    read: AtomicU64,
    suspected: AtomicBool,
}

impl Traffic {
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub(crate) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Has the next flush find out whether the connection has failed. Who reads hears of it without.
    pub(crate) fn suspect(&self) {
        self.suspected.store(true, Ordering::Relaxed);
    }
}

fn add(count: &AtomicU64, bytes: usize) {
    // One writer: no need of an atomic addition.
    count.store(
        count.load(Ordering::Relaxed) + bytes as u64,
        Ordering::Relaxed,
    );
}

/// A stream and its counts.
#[derive(Debug)]
pub(crate) struct Counted {
    io: Io,
    traffic: Arc<Traffic>,
}

impl Counted {
    pub(crate) fn new(io: Io) -> (Self, Arc<Traffic>) {
        let traffic = Arc::new(Traffic::default());
        let counted = Self {
            io,
            traffic: traffic.clone(),
        };
        (counted, traffic)
    }

    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            add(&self.traffic.written, *bytes);
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        add(&self.traffic.read, buf.filled().len() - before);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.count(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let suspected = &self.traffic.suspected;
        if suspected.load(Ordering::Relaxed) {
            suspected.store(false, Ordering::Relaxed);
            self.io.failure()?;
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
