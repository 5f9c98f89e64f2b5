//! How sending one request ended, whichever codec sent it.

/// No answer came. What decides about another attempt is whether the application can have seen the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// Nothing of it left, or the peer had said goodbye before: it may be sent again, whatever its method.
    #[error("the request was not delivered")]
    Undelivered,
    /// The peer took it and said that no application saw any of it: likewise.
    #[error("the peer refused the request undelivered")]
    Refused,
    /// The stream or connection broke off; nobody knows how far the request came.
    #[error("the connection broke off before an answer")]
    Reset,
    /// A kept connection ended under the request before any of an answer: most likely its idle close. Idempotent
    /// requests may be sent again (RFC 9112 9.3.1).
    #[error("a kept connection ended before an answer")]
    Stale,
    /// The codec cannot carry it.
    #[error("the request cannot be carried over HTTP/2")]
    Unsendable,
    /// The client broke off its own body.
    #[error("the client broke off")]
    ClientGone,
}
