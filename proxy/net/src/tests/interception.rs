//! Listeners for redirected connections, dialled directly: no relay, no loop.

use super::*;

#[tokio::test]
async fn who_dials_the_redirected_listeners_directly_is_refused() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut proxy = mesh.proxy("web", 2);
        proxy.takes(MtlsMode::Permissive);
        let inbound = proxy.listen(Role::Inbound);
        let outbound = proxy.listen(Role::Outbound);
        proxy.start();
        for listener in [inbound, outbound] {
            for what in [
                &b"GET http://169.254.169.254/ HTTP/1.1\r\n\r\n"[..],
                b"CONNECT 10.0.0.1:22 HTTP/1.1\r\n\r\n",
                b"\x00\x01",
                b"",
            ] {
                assert_eq!(say(listener, what).await, "");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_proxys_own_ports_are_no_destination() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut proxy = mesh.proxy("web", 2);
        let listens: Vec<_> = crate::OWN_PORTS
            .iter()
            .map(|port| proxy.listen_for(SocketAddr::new(ip(2), *port)))
            .collect();
        proxy.start();
        for listen in listens {
            assert_eq!(say(listen, b"GET /drain HTTP/1.1\r\n\r\n").await, "");
        }
    })
    .await;
}
