//! Sessions resume while nothing has changed, and never across a change of trust.

use rustls::HandshakeKind::{Full, Resumed};
use rustls::{ClientConnection, HandshakeKind, ServerConnection};

use super::*;

struct Pair {
    mesh: Mesh,
    client: MeshTls,
    server: MeshTls,
    config: Arc<rustls::ServerConfig>,
}

impl Pair {
    fn new() -> Self {
        let mesh = Mesh::new();
        let (client, server) = (mesh.workload("shop", "web"), mesh.workload("shop", "cart"));
        let config = server
            .server_config(&[b"weft/h2"], ClientAuth::Required)
            .unwrap();
        Self {
            mesh,
            client,
            server,
            config,
        }
    }

    /// A handshake and its kind, the peers checked as callers must.
    fn shake(&self) -> HandshakeKind {
        let expected = id("shop", "cart");
        let done = handshake(&self.client, &self.config, peer_name(&expected, address())).unwrap();
        self.client.server_of(&done.client, &expected).unwrap();
        let caller = self.server.client_of(&done.server).unwrap().unwrap();
        assert_eq!(caller.id, id("shop", "web"));
        assert_eq!(done.client.handshake_kind(), done.server.handshake_kind());
        done.client.handshake_kind().unwrap()
    }
}

#[test]
fn a_second_connection_to_the_same_endpoint_resumes() {
    let pair = Pair::new();
    assert_eq!(pair.shake(), Full);
    assert_eq!(pair.shake(), Resumed);
    assert_eq!(
        pair.shake(),
        Resumed,
        "a resumed one brings the next ticket"
    );
    let elsewhere = peer_name(&id("shop", "cart"), "10.1.2.4:8080".parse().unwrap());
    let done = handshake(&pair.client, &pair.config, elsewhere).unwrap();
    assert_eq!(done.client.handshake_kind(), Some(Full));
}

#[test]
fn a_change_of_trust_on_either_side_ends_resumption() {
    for changed_on_server in [true, false] {
        let pair = Pair::new();
        pair.shake();
        assert_eq!(pair.shake(), Resumed);
        let more = pair.mesh.authority.bundle().union(&Forge::new().bundle());
        let side = if changed_on_server {
            &pair.server
        } else {
            &pair.client
        };
        side.trust().replace(more.clone());
        assert_eq!(pair.shake(), Full);
        assert_eq!(pair.shake(), Resumed);
        side.trust().replace(more);
        assert_eq!(pair.shake(), Resumed, "the same bundle again is no change");
    }
}

#[test]
fn what_rested_on_a_removed_root_does_not_resume() {
    let pair = Pair::new();
    pair.shake();
    let other = Mesh::new().authority.bundle();
    pair.server.trust().replace(other);
    let name = peer_name(&id("shop", "cart"), address());
    let error = handshake(&pair.client, &pair.config, name).err();
    assert_eq!(error, Some(rustls::CertificateError::UnknownIssuer.into()));
}

/// The change falls between the ticket's acceptance and the end of the handshake: the check that
/// callers make afterwards refuses.
#[test]
fn a_resumed_handshake_is_checked_against_the_trust_of_now() {
    let pair = Pair::new();
    pair.shake();
    let name = peer_name(&id("shop", "cart"), address());
    let done = handshake(&pair.client, &pair.config, name).unwrap();
    assert_eq!(done.client.handshake_kind(), Some(Resumed));
    let other = Mesh::new().authority.bundle();
    pair.client.trust().replace(other.clone());
    pair.server.trust().replace(other);
    assert!(matches!(
        pair.client.server_of(&done.client, &id("shop", "cart")),
        Err(PeerError::UnknownIssuer { .. })
    ));
    assert!(matches!(
        pair.server.client_of(&done.server),
        Err(PeerError::UnknownIssuer { .. })
    ));
}

#[test]
fn a_renewed_client_shows_its_new_leaf() {
    let pair = Pair::new();
    pair.shake();
    let renewed = pair.mesh.issue(&id("shop", "web"));
    let serial = renewed.chain().serial().clone();
    pair.client.identity().set(renewed);
    let name = peer_name(&id("shop", "cart"), address());
    let done = handshake(&pair.client, &pair.config, name).unwrap();
    assert_eq!(done.client.handshake_kind(), Some(Full));
    let caller = pair.server.client_of(&done.server).unwrap().unwrap();
    assert_eq!(caller.serial, serial);
}

/// A session must not fail where a full handshake would not: after the server renewed, tickets of
/// its old leaf are not used past that leaf's end.
#[test]
fn a_ticket_ends_with_the_leaf_it_came_with() {
    let pair = Pair::new();
    pair.mesh.clock.advance(DAY - HOUR / 2);
    pair.client
        .identity()
        .set(pair.mesh.issue(&id("shop", "web")));
    assert_eq!(pair.shake(), Full);
    pair.server
        .identity()
        .set(pair.mesh.issue(&id("shop", "cart")));
    pair.mesh.clock.advance(HOUR / 2 + Duration::from_secs(1));
    assert_eq!(pair.shake(), Full);
}

/// Nor does a chain of resumptions outlive the leaf that it began with.
#[test]
fn a_renewed_server_does_not_resume_what_its_old_leaf_began() {
    let pair = Pair::new();
    pair.shake();
    pair.mesh.clock.advance(DAY - HOUR / 2);
    pair.client
        .identity()
        .set(pair.mesh.issue(&id("shop", "web")));
    assert_eq!(pair.shake(), Full);
    pair.server
        .identity()
        .set(pair.mesh.issue(&id("shop", "cart")));
    assert_eq!(pair.shake(), Full);
    pair.mesh.clock.advance(HOUR / 2 + Duration::from_secs(1));
    assert_eq!(pair.shake(), Resumed);
}

#[test]
fn tickets_end_after_an_hour() {
    let pair = Pair::new();
    pair.shake();
    pair.mesh.clock.advance(HOUR + Duration::from_secs(1));
    assert_eq!(pair.shake(), Full);
}

#[test]
fn open_connections_can_be_checked_again() {
    let pair = Pair::new();
    let name = peer_name(&id("shop", "cart"), address());
    let config = pair.client.client_config(&[b"weft/h2"]);
    let mut client = ClientConnection::new(config, name).unwrap();
    let mut server = ServerConnection::new(pair.config.clone()).unwrap();
    exchange(&mut client, &mut server).unwrap();
    let chain = server.peer_certificates().unwrap();
    let check = || pair.server.recheck(chain, PeerRole::Client);
    assert_eq!(check().unwrap().id, id("shop", "web"));
    pair.server.trust().replace(Forge::new().bundle());
    assert!(matches!(check(), Err(PeerError::UnknownIssuer { .. })));
    pair.server.trust().replace(pair.mesh.authority.bundle());
    check().unwrap();
    pair.mesh.clock.advance(DAY + HOUR);
    assert!(matches!(check(), Err(PeerError::Expired { .. })));
}
