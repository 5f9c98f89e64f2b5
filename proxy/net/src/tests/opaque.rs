//! Opaque TCP: who speaks first, how it ends, what it is refused.

use super::*;

fn vip() -> SocketAddr {
    "10.96.0.9:3306".parse().unwrap()
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_over_the_whole_way() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut server = mesh.proxy("db", 2);
        server.takes(MtlsMode::Strict);
        let pod = server.before(greeting_app(2).await);
        let mut client = mesh.proxy("client", 3);
        client.service(vip(), Protocol::Detect, &[(pod, Some(id("db")))]);
        let listen = client.listen_for(vip());
        server.start();
        client.start();
        // The second time it is known who speaks first.
        for _ in 0..2 {
            let mut socket = dial(listen).await;
            let mut greeting = [0; 10];
            socket.read_exact(&mut greeting).await.unwrap();
            assert_eq!(&greeting, b"220 ready\n");
            socket.write_all(b"HELO\n").await.unwrap();
            socket.shutdown().await.unwrap();
            assert_eq!(hear_out(socket).await, "HELO\n");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_hesitates_and_then_speaks_http_is_still_understood() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut client = mesh.proxy("client", 3);
        // An application that waits for its client, as HTTP servers do.
        let app = shouting_app(4).await;
        client.service(vip(), Protocol::Detect, &[(app, None)]);
        let listen = client.listen_for(vip());
        client.proxy.limits.server_first_after = Duration::ZERO;
        client.start();
        let mut socket = dial(listen).await;
        // Dialled for by now: the endpoint counts a connection.
        let backend = loop {
            if let Some(weft_proxy_config::Resolution::Service { service, .. }) =
                client.proxy.store.resolved(vip())
            {
                let own = Arc::clone(&service.load().ports[0].own);
                if own.state.connections() == 1 {
                    break own;
                }
            }
            tokio::task::yield_now().await;
        };
        socket.write_all(b"GET / HT").await.unwrap();
        tokio::task::yield_now().await;
        socket.write_all(b"TP/1.1\r\n").await.unwrap();
        assert_eq!(hear_out(socket).await, "outbound http1 GET / HTTP/1.1\n");
        assert_eq!(backend.state.connections(), 0);
    })
    .await;
}

const LONG: Duration = Duration::from_secs(60);

/// A client's proxy that dials for a silent client at once, and what it is reached at.
fn impatient(mesh: &Mesh, endpoints: &[(SocketAddr, Option<SpiffeId>)]) -> (TestProxy, SocketAddr) {
    let mut client = mesh.proxy("client", 3);
    client.service(vip(), Protocol::Detect, endpoints);
    let listen = client.listen_for(vip());
    client.proxy.limits.server_first_after = Duration::ZERO;
    client.proxy.limits.last_word_timeout = LONG;
    client.proxy.limits.turned_away_within = LONG;
    (client, listen)
}

/// Says late what it has to say, and is served as HTTP.
async fn speaks_at_last(mut client: TcpStream) {
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(hear_out(client).await, "outbound http1 GET / HTTP/1.1\n");
}

#[tokio::test]
async fn a_silent_client_outlives_the_server_that_was_dialled_for_it() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let app = TcpListener::bind((ip(4), 0)).await.unwrap();
        let (mut client, listen) = impatient(&mesh, &[(app.local_addr().unwrap(), None)]);
        client.proxy.limits.turned_away_within = Duration::ZERO;
        client.start();
        let silent = dial(listen).await;
        for _ in 0..3 {
            drop(app.accept().await.unwrap());
        }
        let (_last, _) = app.accept().await.unwrap();
        speaks_at_last(silent).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_held_up_is_understood_whatever_became_of_who_was_dialled() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let app = TcpListener::bind((ip(4), 0)).await.unwrap();
        let (mut client, listen) = impatient(&mesh, &[(app.local_addr().unwrap(), None)]);
        client.start();
        let silent = dial(listen).await;
        let (gone, _) = app.accept().await.unwrap();
        socket2::SockRef::from(&gone)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(gone);
        speaks_at_last(silent).await;

        let (mut client, listen) = impatient(&mesh, &[]);
        client.start();
        speaks_at_last(dial(listen).await).await;
    })
    .await;
}

#[tokio::test]
async fn where_clients_speak_first_nobody_is_dialled_for_one_held_up() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let app = TcpListener::bind((ip(4), 0)).await.unwrap();
        let dialled = async || {
            tokio::select! {
                biased;
                accepted = app.accept() => accepted.is_ok(),
                () = std::future::ready(()) => false,
            }
        };
        let (mut client, listen) = impatient(&mesh, &[(app.local_addr().unwrap(), None)]);
        client.proxy.limits.held_up_timeout = LONG;
        client.start();
        let first = dial(listen).await;
        while !dialled().await {
            tokio::task::yield_now().await;
        }
        speaks_at_last(first).await;
        let second = dial(listen).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        speaks_at_last(second).await;
        assert!(!dialled().await);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_turns_its_client_away_does_so_through_the_proxy() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let app = TcpListener::bind((ip(4), 0)).await.unwrap();
        let (mut client, listen) = impatient(&mesh, &[(app.local_addr().unwrap(), None)]);
        client.proxy.limits.last_word_timeout = Duration::ZERO;
        client.start();
        let silent = dial(listen).await;
        drop(app.accept().await.unwrap());
        assert_eq!(hear_out(silent).await, "");
    })
    .await;
}

#[tokio::test]
async fn a_port_that_is_http_is_never_dialled_for_a_silent_client() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut client = mesh.proxy("client", 3);
        let app = TcpListener::bind((ip(4), 0)).await.unwrap();
        let to = app.local_addr().unwrap();
        client.service(vip(), Protocol::Http, &[(to, None)]);
        let listen = client.listen_for(vip());
        client.proxy.limits.server_first_after = Duration::ZERO;
        client.proxy.limits.silence_timeout = Duration::from_millis(50);
        client.start();
        let silent = dial(listen).await;
        tokio::select! {
            _ = app.accept() => panic!("dialled for a silent client of HTTP"),
            heard = hear_out(silent) => assert_eq!(heard, ""),
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_ends_its_half_at_once_still_hears_the_server() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut client = mesh.proxy("client", 3);
        client.service(vip(), Protocol::Detect, &[(greeting_app(4).await, None)]);
        let listen = client.listen_for(vip());
        client.start();
        assert_eq!(say(listen, b"").await, "220 ready\n");
    })
    .await;
}

#[tokio::test]
async fn a_broken_server_does_not_look_like_a_finished_one() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut server = mesh.proxy("db", 2);
        server.takes(MtlsMode::Strict);
        let app = TcpListener::bind((ip(2), 0)).await.unwrap();
        let pod = server.before(app.local_addr().unwrap());
        let mut client = mesh.proxy("client", 3);
        client.service(vip(), Protocol::Tcp, &[(pod, Some(id("db")))]);
        let listen = client.listen_for(vip());
        server.start();
        client.start();
        let mut socket = dial(listen).await;
        socket.write_all(b"\x00go").await.unwrap();
        let (mut broken, _) = app.accept().await.unwrap();
        broken.write_all(b"half of it").await.unwrap();
        let mut half = [0; 10];
        socket.read_exact(&mut half).await.unwrap();
        socket2::SockRef::from(&broken)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(broken);
        let error = socket.read(&mut half).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    })
    .await;
}

#[tokio::test]
async fn policy_that_changes_ends_what_it_no_longer_allows() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut server = mesh.proxy("db", 2);
        server.takes(MtlsMode::Permissive);
        let pod = server.before(greeting_app(2).await);
        server.start();
        let mut socket = dial(pod).await;
        let mut greeting = [0; 10];
        socket.read_exact(&mut greeting).await.unwrap();
        server.takes(MtlsMode::Strict);
        assert_eq!(hear_out(socket).await, "");
    })
    .await;
}

#[tokio::test]
async fn destinations_outside_follow_the_outbound_policy() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut client = mesh.proxy("client", 3);
        let outside = shouting_app(4).await;
        client.writer.set_address(outside, AddressTarget::Nobody);
        let listen = client.listen_for(outside);
        client.start();
        assert_eq!(say(listen, b"\x00out\n").await, "\0OUT\n");
        client.writer.set_mesh(MeshConfig {
            outbound: OutboundPolicy::RegistryOnly,
            ..MeshConfig::default()
        });
        assert_eq!(say(listen, b"\x00out\n").await, "");
        // HTTP gets its refusal from the request path.
        assert_eq!(
            say(listen, b"GET / HTTP/1.1\r\n").await,
            "outbound http1 GET / HTTP/1.1\n"
        );
        client.writer.set_mesh(MeshConfig {
            outbound: OutboundPolicy::AllowAny,
            ranges: vec!["127.0.0.0/8".parse().unwrap()],
            ..MeshConfig::default()
        });
        assert_eq!(say(listen, b"\x00out\n").await, "");
    })
    .await;
}

#[tokio::test]
async fn at_its_limit_a_backend_takes_no_further_connection() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut client = mesh.proxy("client", 3);
        let app = greeting_app(4).await;
        client.service(vip(), Protocol::Tcp, &[(app, None)]);
        let listen = client.listen_for(vip());
        client.start();
        let weft_proxy_config::Resolution::Service { service, .. } =
            client.proxy.store.resolve(vip()).await
        else {
            panic!("the service is not known");
        };
        let own = Arc::clone(&service.load().ports[0].own);
        let limits = own.load().policy.limits.clone();
        let held: Vec<_> = (0..limits.max_connections)
            .map(|_| own.state.try_connection(&limits).unwrap())
            .collect();
        assert_eq!(say(listen, b"").await, "");
        drop(held);
        assert_eq!(say(listen, b"").await, "220 ready\n");
    })
    .await;
}

#[tokio::test]
async fn an_application_that_listens_on_one_family_is_reached_by_both() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut server = mesh.proxy("db", 2);
        server.proxy.addresses = [ip(2), ip(7)].into();
        server.takes(MtlsMode::Permissive);
        let app = greeting_app(7).await;
        let pod = server.before(SocketAddr::new(ip(2), app.port()));
        server.start();
        assert_eq!(say(pod, b"").await, "220 ready\n");
    })
    .await;
}
