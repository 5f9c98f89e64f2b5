//! The byte stream of a connection as the rest of the proxy sees it: plain TCP, mutual TLS, or the
//! in-process hop of a pod that calls its own service.
//!
//! Bytes that protocol detection has read are put in front and come out first.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// One connection's bytes, both ways.
#[derive(Debug)]
pub enum Io {
    /// TCP in the clear.
    Plain(Tcp),
    /// TLS over TCP, handshake done.
    Tls(Box<TlsStream<Tcp>>),
    /// Both ends are in this process: a call to the pod's own service.
    Memory(DuplexStream),
}

impl Io {
    /// Plain TCP without bytes put back.
    pub fn plain(socket: TcpStream) -> Self {
        Self::Plain(Tcp::new(socket))
    }

    /// Makes the end of this connection, when it is dropped, an abort (RST) and not a clean end.
    pub(crate) fn abort_on_drop(&self) {
        if let Some(socket) = self.socket() {
            // A socket that is gone already needs no abort.
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
    }

    /// What the kernel knows to have ended this connection, told once: for who does not read, since its own reader has
    /// no room, and would not hear of it.
    ///
    /// # Errors
    /// The other end is gone without a goodbye.
    pub fn failure(&self) -> io::Result<()> {
        match self.socket().map(TcpStream::take_error) {
            Some(Ok(Some(error)) | Err(error)) => Err(error),
            Some(Ok(None)) | None => Ok(()),
        }
    }

    pub(crate) fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(tcp) => Some(tcp.socket()),
            Self::Tls(tls) => Some(tls.get_ref().0.socket()),
            Self::Memory(_) => None,
        }
    }
}

/// A TCP connection with the bytes that were already read from it put back in front.
#[derive(Debug)]
pub struct Tcp {
    ahead: Bytes,
    socket: TcpStream,
    /// Its reader asks for little at a time.
    gulps: bool,
}

/// What is read at once for a reader that asks for less: four TLS records.
const GULP: usize = 64 * 1024;

impl Tcp {
    /// A connection of which nothing has been read.
    pub fn new(socket: TcpStream) -> Self {
        Self::with_ahead(Bytes::new(), socket)
    }

    /// A connection of which `ahead` has been read and is to come out again first.
    pub fn with_ahead(ahead: Bytes, socket: TcpStream) -> Self {
        Self {
            ahead,
            socket,
            gulps: false,
        }
    }

    /// The same for TLS: rustls asks for 4 KiB at a time, a quarter of a record. All that has come is read in one
    /// system call, and what it does not take yet is put in front.
    pub(crate) fn for_tls(mut self) -> Self {
        self.gulps = true;
        self
    }

    fn poll_gulp(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        thread_local! {
            static MOUTH: RefCell<Box<[u8]>> = RefCell::new(vec![0; GULP].into());
        }
        MOUTH.with_borrow_mut(|mouth| {
            let mut read = ReadBuf::new(mouth);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read))?;
            let read = read.filled();
            let (asked, more) = read.split_at(read.len().min(buf.remaining()));
            buf.put_slice(asked);
            if !more.is_empty() {
                self.ahead = Bytes::copy_from_slice(more);
            }
            Poll::Ready(Ok(()))
        })
    }

    /// The socket itself; reading from it directly would pass the put-back bytes by.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return match self.gulps {
                true => self.poll_gulp(cx, buf),
                false => Pin::new(&mut self.socket).poll_read(cx, buf),
            };
        }
        let n = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..n]);
        self.ahead.advance(n);
        if self.ahead.is_empty() {
            self.ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

macro_rules! each {
    ($self:expr, $io:ident => $call:expr) => {
        match $self.get_mut() {
            Io::Plain(io) => {
                let $io = Pin::new(io);
                $call
            }
            Io::Tls(io) => {
                let $io = Pin::new(io.as_mut());
                $call
            }
            Io::Memory(io) => {
                let $io = Pin::new(io);
                $call
            }
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
            Self::Memory(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_shutdown(cx))
    }
}
