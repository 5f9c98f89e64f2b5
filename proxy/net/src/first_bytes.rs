//! Hearing a client out until it is known what it speaks, without letting it take for ever.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::detect::{INSPECTION_LIMIT, Speaks, Verdict, give_up, inspect};
use crate::io::Tcp;

/// Enough for most request heads; a ClientHello makes it grow.
const FIRST_READ: usize = 1024;

/// What came of listening.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It is known what the client speaks.
    Speaks(Speaks),
    /// It said nothing for as long as one cared to wait.
    Silent,
    /// It said all it had to say, which is nothing; it may still be listening.
    Finished,
    /// It began a ClientHello and did not get on with it.
    TooSlow,
    /// It is gone.
    Gone,
}

/// The first bytes of a connection, kept to be put back.
#[derive(Debug)]
pub(crate) struct FirstBytes {
    bytes: BytesMut,
    first_at: Option<Instant>,
    detect_timeout: Duration,
}

impl FirstBytes {
    pub(crate) fn new(detect_timeout: Duration) -> Self {
        Self {
            bytes: BytesMut::new(),
            first_at: None,
            detect_timeout,
        }
    }

    /// Listens until the protocol is known, or for `silence` when no byte comes at all. Dropping the
    /// future loses nothing: it can be called again.
    pub(crate) async fn hear(&mut self, socket: &TcpStream, silence: Duration) -> Heard {
        let patience = Instant::now() + silence;
        loop {
            let tls = match inspect(&self.bytes) {
                Verdict::Is(speaks) => return Heard::Speaks(speaks),
                Verdict::More { tls } => tls,
            };
            if self.bytes.len() >= INSPECTION_LIMIT {
                return Heard::Speaks(give_up(&self.bytes));
            }
            let deadline = self
                .first_at
                .map_or(patience, |at| at + self.detect_timeout);
            let ready = tokio::select! {
                biased;
                ready = socket.readable() => ready,
                () = sleep_until(deadline) => return self.out_of_time(tls),
            };
            if ready.is_err() {
                return Heard::Gone;
            }
            self.bytes.reserve(FIRST_READ);
            match socket.try_read_buf(&mut self.bytes) {
                Ok(0) if self.bytes.is_empty() => return Heard::Finished,
                Ok(0) if tls => return Heard::Gone,
                Ok(0) => return Heard::Speaks(give_up(&self.bytes)),
                Ok(_) => {
                    self.first_at.get_or_insert_with(Instant::now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Heard::Gone,
            }
        }
    }

    fn out_of_time(&self, tls: bool) -> Heard {
        if self.bytes.is_empty() {
            Heard::Silent
        } else if tls {
            Heard::TooSlow
        } else {
            Heard::Speaks(give_up(&self.bytes))
        }
    }

    /// The connection as if nothing had been read from it.
    pub(crate) fn put_back(self, socket: TcpStream) -> Tcp {
        Tcp::with_ahead(self.bytes.freeze(), socket)
    }
}
