//! Writes a body into an HTTP/2 stream: one chunk in hand at most, never more than the peer's window takes.
//!
//! Input: a [`Body`] and the stream's sending half. Output: whether all of it went, or whose fault it was
//! that it did not. Dropped half-way, the stream is reset by h2.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::{Reason, SendStream};
use http_body::{Body as HttpBody, Frame};

use crate::body::BodyError;
use crate::carried::Carried;

/// Why not all of a body was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PumpError {
    /// The body itself broke off; the stream has been reset.
    Source,
    /// The peer does not take it any more: the answer, if there is one, says why.
    Peer,
}

impl From<h2::Error> for PumpError {
    fn from(_: h2::Error) -> Self {
        Self::Peer
    }
}

/// A body on its way into a stream.
#[derive(Debug)]
pub(crate) struct Pump<B> {
    body: B,
    stream: SendStream<Bytes>,
    held: Option<Bytes>,
    /// What came after `held` and is no data.
    after: Option<Polled>,
    carried: Option<Carried>,
}

type Polled = Option<Result<Frame<Bytes>, BodyError>>;

/// Chunks smaller than this are gathered with those that are there already: the frames of a chatty body would
/// otherwise cost everyone on the way many times their bytes.
const SMALL: usize = 512;
/// As much is gathered.
const GATHERED: usize = 8 * 1024;

impl<B> Pump<B>
where
    B: HttpBody<Data = Bytes, Error = BodyError> + Unpin,
{
    pub(crate) fn new(body: B, stream: SendStream<Bytes>) -> Self {
        Self {
            body,
            stream,
            held: None,
            after: None,
            carried: None,
        }
    }

    /// Tells what the stream has carried.
    pub(crate) fn counted(mut self, carried: Carried) -> Self {
        self.carried = Some(carried);
        self
    }

    /// Moves on as far as body and window allow. Ready once the end of the stream is handed to h2.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        loop {
            if let Some(held) = self.held.take() {
                if self.poll_capacity(cx)?.is_pending() {
                    self.held = Some(held);
                    return Poll::Pending;
                }
                if let Some(carried) = &mut self.carried {
                    carried.more(held.len());
                }
                let end = self.after.is_none() && self.body.is_end_stream();
                self.stream.send_data(held, end)?;
                if end {
                    return Poll::Ready(Ok(()));
                }
            }
            // A reset must be noticed while nothing comes from the body.
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(PumpError::Peer));
            }
            match ready!(self.poll_body(cx)) {
                Some(Ok(frame)) => {
                    let frame = match frame.into_data() {
                        Ok(data) if data.is_empty() => continue,
                        Ok(data) => {
                            self.held = Some(self.gather(data, cx));
                            continue;
                        }
                        Err(frame) => frame,
                    };
                    if let Ok(trailers) = frame.into_trailers() {
                        self.stream.reserve_capacity(0);
                        return Poll::Ready(Ok(self.stream.send_trailers(trailers)?));
                    }
                }
                Some(Err(error)) => {
                    self.stream.send_reset(reason_of(&error));
                    return Poll::Ready(Err(PumpError::Source));
                }
                None => return Poll::Ready(Ok(self.stream.send_data(Bytes::new(), true)?)),
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        match self.after.take() {
            Some(after) => Poll::Ready(after),
            None => Pin::new(&mut self.body).poll_frame(cx),
        }
    }

    /// A chunk, with what small ones are there after it.
    fn gather(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        if first.len() >= SMALL || self.body.is_end_stream() {
            return first;
        }
        let mut gathered = BytesMut::new();
        while gathered.len() < GATHERED && !self.body.is_end_stream() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                    if gathered.is_empty() {
                        gathered.extend_from_slice(&first);
                    }
                    gathered.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                }
                Poll::Ready(other) => {
                    self.after = Some(other);
                    break;
                }
                Poll::Pending => break,
            }
        }
        if gathered.is_empty() {
            first
        } else {
            gathered.freeze()
        }
    }

    /// Asks for one byte of window only: the chunk is in hand, h2 sends it as the window opens, and
    /// streams that wait do not pin the connection's window meanwhile.
    fn poll_capacity(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        if self.stream.capacity() > 0 {
            return Poll::Ready(Ok(()));
        }
        self.stream.reserve_capacity(1);
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(PumpError::Peer)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The code with which a stream is reset whose body broke off.
fn reason_of(error: &BodyError) -> Reason {
    match error {
        BodyError::Http2(error) => error.reason().unwrap_or(Reason::CANCEL),
        BodyError::Http1(_) => Reason::INTERNAL_ERROR,
        BodyError::ClientGone => Reason::CANCEL,
    }
}
