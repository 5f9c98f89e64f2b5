//! Why the proxy answered or ended something itself: a closed set, so that it can be a metric label.

use std::fmt;

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why the proxy, and not the application, ended a request or connection. Its text stands in the response header
        /// `weft-response-flag`, in the access log and in metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Flag {
            $($(#[$doc])* $name,)*
        }

        impl Flag {
            /// Every flag, for documentation and tests.
            pub const ALL: &'static [Flag] = &[$(Flag::$name,)*];

            /// The stable text form.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Flag::$name => $text,)*
                }
            }
        }
    };
}

flags! {
    /// 400: what came is not a request.
    BadRequest = "bad-request",
    /// 431 or 413: headers or target too large.
    TooLarge = "too-large",
    /// 408: the client did not finish sending in time.
    RequestTimeout = "request-timeout",
    /// 404: the service has routes and none matches.
    NoRoute = "no-route",
    /// 500: the route's backend cannot be used (missing, invalid).
    InvalidBackend = "invalid-backend",
    /// 503: the service has no usable endpoint.
    NoEndpoint = "no-endpoint",
    /// 502 or 503: an mTLS or TCP connection could not be made.
    ConnectFailed = "connect-failed",
    /// 502 or 503: the connection ended before an answer.
    Reset = "reset",
    /// 504: the deadline of the request or the attempt.
    Timeout = "timeout",
    /// 503: a limit of the circuit breaker.
    Overloaded = "overloaded",
    /// All attempts failed; the answer is the last one's.
    RetriesExhausted = "retries-exhausted",
    /// 403: an authorization policy said no; `weft-decision` names it.
    Denied = "denied",
    /// Plaintext came where mutual TLS is required.
    PlaintextRefused = "plaintext-refused",
    /// 503: nobody could say what is behind a mesh address.
    Unresolved = "unresolved",
    /// The outbound policy does not allow this destination.
    NotInRegistry = "not-in-registry",
    /// 503: the proxy has no policy or certificate yet.
    NotReady = "not-ready",
    /// Opaque bytes on a port that is HTTP.
    NotHttp = "not-http",
    /// The destination is the proxy itself or not this pod.
    BadDestination = "bad-destination",
    /// The client went away before the answer.
    ClientGone = "client-gone",
    /// The application went away mid-answer.
    UpstreamGone = "upstream-gone",
    /// The peer could not prove who it is.
    HandshakeFailed = "handshake-failed",
    /// The pod is leaving and its application is gone.
    Leaving = "leaving",
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
