//! Real handshakes: who gets through, to whom, with which algorithms.

use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};

use super::*;

fn server_config(server: &MeshTls) -> Arc<rustls::ServerConfig> {
    server
        .server_config(&[b"weft/h2", b"weft/tcp"], ClientAuth::Required)
        .unwrap()
}

#[test]
fn both_sides_know_each_other_afterwards() {
    let mesh = Mesh::new();
    let (client, server) = (mesh.workload("shop", "web"), mesh.workload("shop", "cart"));
    let expected = id("shop", "cart");
    let done = handshake(
        &client,
        &server_config(&server),
        peer_name(&expected, address()),
    )
    .unwrap();

    let seen_by_client = client.server_of(&done.client, &expected).unwrap();
    assert_eq!(seen_by_client.id, expected);
    assert_eq!(
        seen_by_client.serial,
        *server.identity().current().unwrap().chain().serial()
    );
    let seen_by_server = server.client_of(&done.server).unwrap().unwrap();
    assert_eq!(seen_by_server.id, id("shop", "web"));
    assert_eq!(seen_by_server.not_after, start() + DAY);

    assert_eq!(
        done.client.protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
    assert_eq!(done.client.alpn_protocol(), Some(&b"weft/h2"[..]));
    let group = done.client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(done.client.handshake_kind(), Some(HandshakeKind::Full));
    assert_eq!(
        done.server.server_name(),
        None,
        "no name goes over the wire"
    );
}

#[test]
fn the_key_exchange_can_be_held_to_x25519() {
    let mesh = Mesh::new();
    let expected = id("shop", "cart");
    for (client, server) in [
        (KeyExchange::X25519, KeyExchange::X25519),
        (KeyExchange::X25519, KeyExchange::PostQuantum),
        (KeyExchange::PostQuantum, KeyExchange::X25519),
    ] {
        let client = mesh.workload_with("shop", "web", client);
        let server = mesh.workload_with("shop", "cart", server);
        let name = peer_name(&expected, address());
        let done = handshake(&client, &server_config(&server), name).unwrap();
        let group = done.client.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519);
    }
}

#[test]
fn a_server_that_is_someone_else_is_refused() {
    let mesh = Mesh::new();
    let (client, server) = (mesh.workload("shop", "web"), mesh.workload("shop", "cart"));
    let config = server_config(&server);
    let error = handshake(&client, &config, peer_name(&id("shop", "pay"), address()));
    let text = error.err().unwrap().to_string();
    assert!(text.contains("sa/cart"), "{text}");
    // Names that were not made for an identity match nobody.
    for name in ["cart.shop", "10.1.2.3", "a.b.c.weft"] {
        let name = ServerName::try_from(name).unwrap();
        assert!(handshake(&client, &config, name).is_err());
    }
}

#[test]
fn the_caller_learns_of_a_mismatch_even_after_the_handshake() {
    let mesh = Mesh::new();
    let (client, server) = (mesh.workload("shop", "web"), mesh.workload("shop", "cart"));
    let name = peer_name(&id("shop", "cart"), address());
    let done = handshake(&client, &server_config(&server), name).unwrap();
    assert_eq!(
        client.server_of(&done.client, &id("shop", "pay")),
        Err(PeerError::OtherIdentity {
            presented: id("shop", "cart")
        })
    );
}

#[test]
fn a_peer_of_another_mesh_is_refused_on_both_sides() {
    let (mine, theirs) = (Mesh::new(), Mesh::new());
    let name = || peer_name(&id("shop", "cart"), address());
    let (client, server) = (
        mine.workload("shop", "web"),
        theirs.workload("shop", "cart"),
    );
    let error = handshake(&client, &server_config(&server), name()).err();
    assert_eq!(
        error,
        Some(rustls::CertificateError::UnknownIssuer.into()),
        "the client refuses a server with the right name and the wrong root"
    );
    client.trust().replace(theirs.authority.bundle());
    let error = handshake(&client, &server_config(&server), name()).err();
    assert_eq!(
        error,
        Some(rustls::CertificateError::UnknownIssuer.into()),
        "the server refuses the client"
    );
}

#[test]
fn a_change_of_trust_is_in_force_for_the_next_handshake() {
    let (mine, theirs) = (Mesh::new(), Mesh::new());
    let (client, server) = (
        mine.workload("shop", "web"),
        theirs.workload("shop", "cart"),
    );
    let config = server_config(&server);
    let shake = || handshake(&client, &config, peer_name(&id("shop", "cart"), address()));
    assert!(shake().is_err());
    let both = mine.authority.bundle().union(&theirs.authority.bundle());
    client.trust().replace(both.clone());
    server.trust().replace(both);
    shake().unwrap();
    client.trust().replace(mine.authority.bundle());
    assert!(shake().is_err());
}

#[test]
fn without_a_certificate_only_where_it_is_optional() {
    let mesh = Mesh::new();
    let (newcomer, server) = (
        mesh.newcomer(),
        mesh.workload("weft-system", "weft-control-plane"),
    );
    let expected = SpiffeId::control_plane(&domain());
    let name = || peer_name(&expected, address());
    assert!(handshake(&newcomer, &server_config(&server), name()).is_err());

    let optional = server
        .server_config(&[b"weft/h2"], ClientAuth::Optional)
        .unwrap();
    let done = handshake(&newcomer, &optional, name()).unwrap();
    assert_eq!(server.client_of(&done.server), Ok(None));
    let answered = newcomer.server_of(&done.client, &expected).unwrap();
    assert_eq!(answered.id, expected);

    // The same configuration shows the certificate as soon as there is one.
    newcomer.identity().set(mesh.issue(&id("shop", "web")));
    let done = handshake(&newcomer, &optional, name()).unwrap();
    let caller = server.client_of(&done.server).unwrap().unwrap();
    assert_eq!(caller.id, id("shop", "web"));
    // One that it shows must be valid, optional or not.
    newcomer
        .identity()
        .set(Mesh::new().issue(&id("shop", "web")));
    assert!(handshake(&newcomer, &optional, name()).is_err());
}

/// The ticket of a listener that lets anyone in opens no other.
#[test]
fn a_ticket_without_a_certificate_does_not_pass_where_one_is_required() {
    let mesh = Mesh::new();
    let (newcomer, server) = (mesh.newcomer(), mesh.workload("shop", "cart"));
    let name = || peer_name(&id("shop", "cart"), address());
    let optional = server
        .server_config(&[b"weft/h2"], ClientAuth::Optional)
        .unwrap();
    handshake(&newcomer, &optional, name()).unwrap();
    let again = handshake(&newcomer, &optional, name()).unwrap();
    assert_eq!(again.client.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(handshake(&newcomer, &server_config(&server), name()).is_err());
}

#[test]
fn a_server_without_an_identity_answers_nobody() {
    let mesh = Mesh::new();
    let (client, server) = (mesh.workload("shop", "web"), mesh.newcomer());
    let name = peer_name(&id("shop", "cart"), address());
    assert!(handshake(&client, &server_config(&server), name).is_err());
}

#[test]
fn expired_leaves_close_the_door_and_a_renewed_one_opens_it() {
    let mesh = Mesh::new();
    let (client, server) = (mesh.workload("shop", "web"), mesh.workload("shop", "cart"));
    let config = server_config(&server);
    let shake = || handshake(&client, &config, peer_name(&id("shop", "cart"), address()));
    mesh.clock.advance(DAY + HOUR);
    assert_eq!(
        shake().err(),
        Some(rustls::CertificateError::Expired.into())
    );
    server.identity().set(mesh.issue(&id("shop", "cart")));
    assert_eq!(
        shake().err(),
        Some(rustls::CertificateError::Expired.into()),
        "now it is the client's"
    );
    client.identity().set(mesh.issue(&id("shop", "web")));
    shake().unwrap();
}

#[test]
fn a_leaf_stolen_without_its_key_is_of_no_use() {
    let mesh = Mesh::new();
    let chain = mesh.issue(&id("shop", "cart")).chain().clone();
    let error = Identity::new(PrivateKey::generate().unwrap(), chain).unwrap_err();
    assert!(matches!(error, IdentityError::Mismatch { .. }));
}
