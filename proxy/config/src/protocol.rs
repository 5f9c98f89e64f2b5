//! What a port speaks, how strict it is about mTLS, and where an endpoint is.

use std::sync::Arc;

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// Found out per connection.
    #[default]
    Detect,
    /// HTTP/1.1 or HTTP/2, told apart by the preface.
    Http,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC, hence HTTP/2.
    Grpc,
    /// Opaque bytes.
    Tcp,
    /// TLS of the application's own, passed through.
    Tls,
}

impl Protocol {
    /// Declared to be HTTP: opaque bytes are refused there.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http1 | Self::Http2 | Self::Grpc)
    }

    /// Declared to be opaque: never inspected.
    pub fn is_opaque(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }
}

/// Whether plaintext from outside the mesh is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MtlsMode {
    /// Plaintext and mTLS.
    Permissive,
    /// mTLS only.
    Strict,
}

/// Where an endpoint is; empty strings where it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Locality {
    /// Region.
    pub region: Arc<str>,
    /// Zone.
    pub zone: Arc<str>,
}
