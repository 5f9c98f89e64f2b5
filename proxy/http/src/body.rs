//! The one body type of the request path: what came in over a codec, as it goes out over another.
//!
//! Owns: reading frames of HTTP/1 and HTTP/2 bodies, giving HTTP/2 windows back as bytes are handed on,
//! and telling how far a request's body has come ([`Upload`]). Does not own: writing ([`crate::pump`]),
//! keeping for another attempt ([`crate::replay`]).

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

use crate::http1::{AppBody, Raw};
use crate::http2_client::StreamGuard;
use crate::replay::Replay;

/// Why a body ended before its end.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    /// The HTTP/1 peer broke off.
    #[error("HTTP/1: {0}")]
    Http1(#[from] hyper::Error),
    /// The HTTP/2 peer reset the stream or lost the connection.
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    /// An earlier attempt met the end of the client's body.
    #[error("the client broke off its body")]
    ClientGone,
}

/// A body, or what is left of it.
#[derive(Debug, Default)]
pub(crate) struct Body {
    source: Source,
    upload: Option<Rc<Upload>>,
}

/// Whether a body has been asked for. Shared with the codec that tells its sender so (100, RFC 9110 10.1.1).
pub(crate) type Wanted = Cell<bool>;

#[derive(Debug, Default)]
enum Source {
    #[default]
    Empty,
    Full(Bytes),
    Http1(Incoming),
    Http2(Http2Body),
    App(Box<AppBody>),
    Replay(Replay),
    /// Not a body: the connection that went on as something else after this head.
    Raw(Box<Raw>),
}

/// How far a request's body has come, shared with whoever wants to know.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    /// Bytes handed on.
    pub(crate) bytes: Cell<u64>,
    /// No more is read of it: it came to its end, or nobody wants the rest.
    pub(crate) done: Cell<bool>,
    /// It broke off: the client is gone.
    pub(crate) broken: Cell<bool>,
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    /// A short text that the proxy itself says.
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self::of(Source::Full(bytes))
    }

    /// What an HTTP/1 peer sends.
    pub(crate) fn http1(incoming: Incoming) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self::of(Source::Http1(incoming))
    }

    /// What an HTTP/2 peer sends.
    pub(crate) fn http2(stream: h2::RecvStream) -> Self {
        match stream.is_end_stream() {
            true => Self::empty(),
            false => Self::http2_of(stream, Behind::Nothing),
        }
    }

    /// The same, whose sender waits to be told of its first reading.
    pub(crate) fn http2_awaited(stream: h2::RecvStream, wanted: Rc<Wanted>) -> Self {
        Self::http2_of(stream, Behind::Waiting(wanted))
    }

    /// The same, with what is to live as long as the stream.
    pub(crate) fn http2_guarded(stream: h2::RecvStream, guard: StreamGuard) -> Self {
        if stream.is_end_stream() && !guard.is_uploading() {
            return Self::empty();
        }
        Self::http2_of(stream, Behind::Stream(guard))
    }

    fn http2_of(stream: h2::RecvStream, behind: Behind) -> Self {
        Self::of(Source::Http2(Http2Body {
            stream,
            data_done: false,
            trailers_done: false,
            behind,
        }))
    }

    /// What an application answers over HTTP/1, with its connection.
    pub(crate) fn app(body: Box<AppBody>) -> Self {
        Self::of(Source::App(body))
    }

    /// One attempt's reading of a body kept for further attempts.
    pub(crate) fn replay(replay: Replay) -> Self {
        Self::of(Source::Replay(replay))
    }

    /// Lets go of a connection whose answer has no body.
    pub(crate) fn settle(&mut self, cx: &mut Context<'_>) {
        if let Source::App(body) = &mut self.source {
            body.settle(cx);
        }
    }

    /// The connection of an answer that agreed to leave HTTP.
    pub(crate) fn raw(raw: Box<Raw>) -> Self {
        Self::of(Source::Raw(raw))
    }

    /// The connection, if the answer agreed to leave HTTP.
    pub(crate) fn take_raw(&mut self) -> Option<Box<Raw>> {
        match std::mem::take(&mut self.source) {
            Source::Raw(raw) => Some(raw),
            other => {
                self.source = other;
                None
            }
        }
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            upload: None,
        }
    }

    /// Reports progress to `upload` from here on.
    pub(crate) fn reporting(mut self, upload: Rc<Upload>) -> Self {
        upload.done.set(self.is_end_stream());
        self.upload = Some(upload);
        self
    }

    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.source {
            Source::Empty | Source::Raw(_) => Poll::Ready(None),
            Source::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.source = Source::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Source::Http1(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BodyError::Http1),
            Source::Http2(body) => body.poll_frame(cx),
            Source::App(body) => body.poll_frame(cx),
            Source::Replay(replay) => replay.poll_frame(cx),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.poll_source(cx));
        if let Some(upload) = &self.upload {
            match &frame {
                Some(Ok(frame)) => {
                    let len = frame.data_ref().map_or(0, Bytes::len) as u64;
                    upload.bytes.set(upload.bytes.get() + len);
                    if self.is_end_stream() {
                        upload.done.set(true);
                    }
                }
                Some(Err(_)) => upload.broken.set(true),
                None => upload.done.set(true),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty | Source::Raw(_) => true,
            Source::Full(bytes) => bytes.is_empty(),
            Source::Http1(incoming) => incoming.is_end_stream(),
            Source::Http2(body) => body.is_end_stream(),
            Source::App(body) => body.is_end_stream(),
            Source::Replay(replay) => replay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty | Source::Raw(_) => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Http1(incoming) => incoming.size_hint(),
            // Lengths of what comes over a hop stand in `content-length`, which goes on as it came.
            Source::Http2(_) | Source::Replay(_) => SizeHint::default(),
            Source::App(body) => body.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.done.set(true);
        }
    }
}

#[derive(Debug)]
struct Http2Body {
    stream: h2::RecvStream,
    data_done: bool,
    trailers_done: bool,
    behind: Behind,
}

/// What else there is to the stream of a body.
#[derive(Debug)]
enum Behind {
    Nothing,
    /// A client that sends once it is told to.
    Waiting(Rc<Wanted>),
    /// A place on a hop, and what is left of an upload.
    Stream(StreamGuard),
}

impl Http2Body {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Behind::Waiting(wanted) = &self.behind {
            wanted.set(true);
            self.behind = Behind::Nothing;
        }
        while !self.data_done {
            match ready!(self.stream.poll_data(cx)) {
                // An empty frame that does not end the stream says nothing: not passed on, so that
                // a flood of them ends here.
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    // Only fails on a stream that is gone, which the next read reports.
                    let _ = self.stream.flow_control().release_capacity(bytes.len());
                    if let Behind::Stream(guard) = &mut self.behind {
                        guard.open.more(bytes.len());
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Err(error)) => {
                    self.data_done = true;
                    self.trailers_done = true;
                    // RFC 9113 8.1: NO_ERROR after a whole answer only asks to stop uploading.
                    if error.reason() == Some(h2::Reason::NO_ERROR) && error.is_remote() {
                        return Poll::Ready(None);
                    }
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => self.data_done = true,
            }
        }
        if self.trailers_done {
            return Poll::Ready(None);
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.trailers_done = true;
        Poll::Ready(match trailers {
            Ok(Some(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(None) => None,
            Err(error) => Some(Err(error.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        (self.data_done && self.trailers_done) || self.stream.is_end_stream()
    }
}
