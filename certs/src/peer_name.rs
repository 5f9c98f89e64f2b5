//! Whom a client means to reach, as the `ServerName` of its TLS connection.
//!
//! Mesh hops dial addresses and expect an identity; there is no host name. So that one
//! `ClientConfig` serves all peers, the expected identity travels in the connection's server name:
//! a made-up name from the SHA-256 of the SPIFFE ID (all 256 bits) and the address. The verifier
//! compares the first part with the hash of the identity that the peer proves; session tickets are
//! kept per name, hence per identity and endpoint. SNI is switched off: the name never leaves the
//! process, and a server on a mesh hop has one identity to choose from.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use rustls::pki_types::ServerName;
use sha2::{Digest, Sha256};
use weft_identity::SpiffeId;

/// Two labels of 32 hexadecimal digits and the dots after them.
const IDENTITY_LENGTH: usize = 66;

/// The name to give to `ClientConnection::new` or a TLS connector when `expected` is to answer at
/// `at`. Worth keeping per endpoint: it costs a hash.
pub fn peer_name(expected: &SpiffeId, at: SocketAddr) -> ServerName<'static> {
    let mut name = identity_labels(expected);
    match at.ip() {
        IpAddr::V4(ip) => push_hex(&mut name, &ip.octets()),
        IpAddr::V6(ip) => push_hex(&mut name, &ip.octets()),
    }
    push_hex(&mut name, &at.port().to_be_bytes());
    name.push_str(".weft");
    ServerName::try_from(name).expect("labels of at most 36 hexadecimal digits")
}

/// Whether `name` was made for `presented`.
pub(crate) fn names(name: &ServerName<'_>, presented: &SpiffeId) -> bool {
    let ServerName::DnsName(name) = name else {
        return false;
    };
    name.as_ref()
        .get(..IDENTITY_LENGTH)
        .is_some_and(|labels| labels == identity_labels(presented))
}

fn identity_labels(id: &SpiffeId) -> String {
    let digest = Sha256::digest(id.as_str());
    let mut labels = String::with_capacity(128);
    let (first, second) = digest.split_at(16);
    push_hex(&mut labels, first);
    labels.push('.');
    push_hex(&mut labels, second);
    labels.push('.');
    labels
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
    }
}
