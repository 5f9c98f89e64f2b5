//! Which protocol does a connection speak? First bytes in, verdict out; reads nothing itself.
//!
//! HTTP/2 by its preface (RFC 9113 §3.4), HTTP/1 by a whole request line (RFC 9112 §3: a Redis
//! inline command also starts with `GET `), TLS by a whole ClientHello, however many segments and
//! records it comes in (one with X25519MLKEM768 does not fit a segment). All else is opaque.

use rustls::server::Acceptor;

/// No first flight that is worth waiting for is longer.
pub(crate) const INSPECTION_LIMIT: usize = 32 * 1024;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// HTTP/1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// TLS, with what the ClientHello says.
    Tls(ClientHello),
    /// Something else.
    Opaque,
}

/// What a proxy wants to know of a ClientHello. It is the client's word, not a fact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientHello {
    /// The server name it asks for.
    pub(crate) server_name: Option<Box<str>>,
    /// It offers one of the mesh's ALPN names: another proxy wants mutual TLS.
    pub(crate) mesh: bool,
}

/// What can be said after some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No further byte would change it.
    Is(Speaks),
    /// More bytes are needed; `tls` when it can only be TLS or garbage.
    More { tls: bool },
}

/// Judges the first bytes of a connection. `bytes` is everything that came so far.
pub(crate) fn inspect(bytes: &[u8]) -> Verdict {
    match bytes.first() {
        None => Verdict::More { tls: false },
        Some(&HANDSHAKE_RECORD) => inspect_tls(bytes),
        Some(_) => inspect_http(bytes),
    }
}

/// The verdict when no more bytes come, or too many came without one.
pub(crate) fn give_up(bytes: &[u8]) -> Speaks {
    const METHODS: [&[u8]; 8] = [
        b"GET /",
        b"HEAD /",
        b"POST /",
        b"PUT /",
        b"DELETE /",
        b"OPTIONS ",
        b"PATCH /",
        b"CONNECT ",
    ];
    if bytes.len() >= INSPECTION_LIMIT && METHODS.iter().any(|m| bytes.starts_with(m)) {
        return Speaks::Http1;
    }
    Speaks::Opaque
}

fn inspect_http(bytes: &[u8]) -> Verdict {
    if bytes.starts_with(PREFACE) {
        return Verdict::Is(Speaks::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return Verdict::More { tls: false };
    }
    if !could_be_request_line(bytes) {
        return Verdict::Is(Speaks::Opaque);
    }
    let Some(end) = bytes.iter().position(|&b| b == b'\n') else {
        return Verdict::More { tls: false };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    if line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0") {
        Verdict::Is(Speaks::Http1)
    } else {
        Verdict::Is(Speaks::Opaque)
    }
}

/// A method token of at most 32 bytes, a space, then no control characters up to the line's end.
fn could_be_request_line(bytes: &[u8]) -> bool {
    const LONGEST_METHOD: usize = 32;
    let token = bytes.iter().take_while(|&&b| is_token(b)).count();
    if token > LONGEST_METHOD {
        return false;
    }
    let Some((space, rest)) = bytes[token..].split_first() else {
        return true;
    };
    token > 0
        && *space == b' '
        && rest
            .iter()
            .take_while(|&&b| b != b'\n')
            .all(|&b| b >= b' ' && b != 0x7f || b == b'\r')
}

/// RFC 9110 §5.6.2 `tchar`.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

const HANDSHAKE_RECORD: u8 = 0x16;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER: usize = 5;
const LONGEST_RECORD: usize = 16 * 1024 + 256;

fn inspect_tls(bytes: &[u8]) -> Verdict {
    match client_hello_is_whole(bytes) {
        Some(true) => Verdict::Is(parse_client_hello(bytes).map_or(Speaks::Opaque, Speaks::Tls)),
        Some(false) => Verdict::More { tls: true },
        None => Verdict::Is(Speaks::Opaque),
    }
}

/// Walks the records: is the whole ClientHello here? None: this is not one.
fn client_hello_is_whole(mut bytes: &[u8]) -> Option<bool> {
    let mut header = [0u8; 4];
    let mut seen = 0usize;
    loop {
        if bytes.first().is_some_and(|&b| b != HANDSHAKE_RECORD)
            || bytes.get(1).is_some_and(|&b| b != 3)
        {
            return None;
        }
        if bytes.len() < RECORD_HEADER {
            return Some(false);
        }
        let length = usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
        if length == 0 || length > LONGEST_RECORD {
            return None;
        }
        let body = &bytes[RECORD_HEADER..bytes.len().min(RECORD_HEADER + length)];
        for (at, byte) in (seen..header.len()).zip(body) {
            header[at] = *byte;
        }
        seen += body.len();
        if seen > 0 && header[0] != CLIENT_HELLO {
            return None;
        }
        if seen >= header.len() {
            let message =
                usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
            if seen >= header.len() + message {
                return Some(true);
            }
        }
        if body.len() < length {
            return Some(false);
        }
        bytes = &bytes[RECORD_HEADER + length..];
    }
}

/// None: no TLS library would take it.
fn parse_client_hello(mut bytes: &[u8]) -> Option<ClientHello> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                return Some(ClientHello {
                    server_name: hello.server_name().map(Into::into),
                    mesh: hello
                        .alpn()
                        .is_some_and(|mut names| names.any(|n| n.starts_with(b"weft/"))),
                });
            }
            Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests;
