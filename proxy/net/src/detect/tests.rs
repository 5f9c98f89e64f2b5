use super::*;

fn speaks(bytes: &[u8]) -> Option<Speaks> {
    match inspect(bytes) {
        Verdict::Is(speaks) => Some(speaks),
        Verdict::More { .. } => None,
    }
}

/// The verdict, which must be the same however the bytes come.
fn settled(bytes: &[u8]) -> Option<Speaks> {
    let first = (0..=bytes.len()).find_map(|n| speaks(&bytes[..n]));
    assert_eq!(first, speaks(bytes), "{:?}", bytes.escape_ascii());
    first
}

#[test]
fn http1_is_a_whole_request_line() {
    for line in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"GET / HTTP/1.1\n",
        b"get / HTTP/1.0\r\n",
        b"M-SEARCH * HTTP/1.1\r\n",
        b"PROPFIND /a%20b?c=d HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT host:443 HTTP/1.1\r\n",
        b"PRI * HTTP/1.1\r\n",
    ] {
        assert_eq!(
            settled(line),
            Some(Speaks::Http1),
            "{}",
            line.escape_ascii()
        );
    }
}

#[test]
fn http2_is_its_preface() {
    assert_eq!(settled(PREFACE), Some(Speaks::Http2));
    assert_eq!(speaks(&PREFACE[..23]), None);
}

#[test]
fn what_only_resembles_http_is_opaque() {
    for bytes in [
        &b"GET key\r\n"[..],
        b"get key\r\n",
        b"SET a 1\r\n",
        b"EHLO mail.example\r\n",
        b"GET / HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX",
        b" GET / HTTP/1.1\r\n",
        b"\r\nGET / HTTP/1.1\r\n",
        b"GET /\x00 HTTP/1.1\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"AMQP\x00\x00\x09\x01",
        b"ATOKENTHATISMUCHTOOLONGTOBEAMETHODOFHTTP / HTTP/1.1\r\n",
    ] {
        assert_eq!(
            settled(bytes),
            Some(Speaks::Opaque),
            "{}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn a_little_of_anything_is_not_enough() {
    for bytes in [
        &b""[..],
        b"G",
        b"GET /",
        b"P",
        b"PRI * HTTP/2.0\r\n",
        b"\x16",
        b"\x16\x03\x01\x02",
    ] {
        assert_eq!(speaks(bytes), None, "{}", bytes.escape_ascii());
    }
}

#[test]
fn an_endless_request_line_is_http_only_with_a_method_that_is_known() {
    let line = |method: &str| {
        let mut line = method.as_bytes().to_vec();
        line.resize(INSPECTION_LIMIT, b'a');
        line
    };
    assert_eq!(give_up(&line("GET /")), Speaks::Http1);
    assert_eq!(give_up(&line("FROB /")), Speaks::Opaque);
    assert_eq!(give_up(b"GET /"), Speaks::Opaque);
}

fn hello(alpn: &[&[u8]]) -> Vec<u8> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = "web.shop".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn tls(mesh: bool) -> Option<Speaks> {
    Some(Speaks::Tls(ClientHello {
        server_name: Some("web.shop".into()),
        mesh,
    }))
}

#[test]
fn a_client_hello_is_known_when_it_is_whole() {
    let plain = hello(&[b"h2"]);
    assert!(plain.len() > 1200, "with X25519MLKEM768 it spans segments");
    assert_eq!(settled(&plain), tls(false));
    assert_eq!(settled(&hello(&[])), tls(false));
    assert_eq!(settled(&hello(&[b"weft/h2"])), tls(true));
    assert_eq!(speaks(&plain[..plain.len() - 1]), None);
}

#[test]
fn a_client_hello_may_be_cut_into_records() {
    let whole = hello(&[b"weft/tcp"]);
    let mut cut = Vec::new();
    for part in whole[RECORD_HEADER..].chunks(7) {
        cut.extend_from_slice(&[HANDSHAKE_RECORD, 3, 1, 0, part.len() as u8]);
        cut.extend_from_slice(part);
    }
    assert_eq!(settled(&cut), tls(true));
}

#[test]
fn what_only_resembles_a_client_hello_is_opaque() {
    for bytes in [
        &b"\x16\x02\x01\x00\x05"[..],
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x16\x03\x01\x00\x01\x01\x17\x03\x03",
    ] {
        assert_eq!(
            settled(bytes),
            Some(Speaks::Opaque),
            "{}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let mut whole = hello(&[b"weft/h2"]);
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            whole[at] ^= flip;
            let _ = inspect(&whole);
            whole[at] ^= flip;
        }
    }
}
