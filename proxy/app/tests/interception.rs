//! The real kernel: `init`'s table in a network namespace of its own, a proxy under its own user, an
//! application beside it and a peer across a veth pair, over IPv4 and IPv6. Needs root.
//!
//! The test re-executes itself: `pod` runs inside the pod's namespace, `proxy` under the proxy's user,
//! `server` and `client` in the peer's namespace.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use weft_certs::{KeyExchange, MeshTls, SystemClock, TrustBundle, TrustStore, WorkloadIdentity};
use weft_proxy::intercept::Interception;
use weft_proxy_config::{Inbound, MeshConfig, MtlsMode, OutboundPolicy, Store, StoreLimits};
use weft_proxy_net::{
    InboundConn, Io, Leaving, Limits, Listener, OWN_PORTS, OutboundConn, Proxy, ServeHttp,
    redirection_is_in_force, run_worker, seats,
};
use weft_proxy_telemetry::Telemetry;

const POD: [&str; 2] = ["10.77.0.7", "fd77::7"];
const PEER: [&str; 2] = ["10.77.0.1", "fd77::1"];
const PROXY_UID: u32 = 1337;
const ROLE: &str = "WEFT_TEST_ROLE";
const READY: &str = "ROLE READY";

#[test]
fn traffic_is_led_through_the_proxy_and_nothing_else_is_reached() {
    let status = as_role("pod", &["unshare", "--net", "--fork", "--kill-child"])
        .status()
        .unwrap();
    assert!(status.success(), "see the output of the pod above");
}

/// This test program again, playing `role`, started by `through`.
fn as_role(role: &str, through: &[&str]) -> Command {
    let mut command = Command::new(through[0]);
    command
        .args(&through[1..])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "play_a_role", "--ignored", "--nocapture"])
        .env(ROLE, role);
    command
}

#[test]
#[ignore = "not a test: what this program does when the test re-executes it"]
fn play_a_role() {
    match std::env::var(ROLE).unwrap().as_str() {
        "pod" => pod(),
        "proxy" => proxy(),
        "server" => server(),
        "client" => client(),
        role => panic!("no such role: {role}"),
    }
}

/// A child that is killed with its owner.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a role and waits until it says that it is ready.
fn start(role: &str, through: &[&str]) -> Owned {
    let mut child = as_role(role, through)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    assert!(lines.lines().any(|line| line.unwrap().contains(READY)));
    Owned(child)
}

fn say_ready() {
    println!("\n{READY}");
    std::io::stdout().flush().unwrap();
}

fn sh(command: &str) {
    let status = Command::new("sh").args(["-ec", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

fn pod() {
    let peer = Command::new("unshare")
        .args([
            "--net",
            "sh",
            "-c",
            &format!("echo; echo {READY}; exec sleep 600"),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut peer = Owned(peer);
    let lines = BufReader::new(peer.0.stdout.take().unwrap());
    assert!(lines.lines().any(|line| line.unwrap().contains(READY)));
    let pid = peer.0.id();
    let in_peer = format!("nsenter -t {pid} -n");
    sh(&format!(
        "ip link set lo up
         ip link add eth0 type veth peer name eth0 netns {pid}
         ip addr add {}/24 dev eth0; ip addr add {}/64 dev eth0 nodad; ip link set eth0 up
         {in_peer} ip link set lo up
         {in_peer} ip addr add {}/24 dev eth0; {in_peer} ip addr add {}/64 dev eth0 nodad
         {in_peer} ip link set eth0 up",
        POD[0], POD[1], PEER[0], PEER[1]
    ));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert!(runtime.block_on(redirection_is_in_force()).is_err());
    let interception = Interception {
        proxy_uid: PROXY_UID,
        exclude_outbound_ports: vec![7100],
        exclude_outbound_cidrs: Vec::new(),
        exclude_inbound_ports: Vec::new(),
    };
    // A second time changes nothing.
    runtime.block_on(interception.install()).unwrap();
    runtime.block_on(interception.install()).unwrap();
    let uid = PROXY_UID.to_string();
    let _proxy = start(
        "proxy",
        &[
            "setpriv",
            "--reuid",
            &uid,
            "--regid",
            &uid,
            "--clear-groups",
        ],
    );
    runtime.block_on(redirection_is_in_force()).unwrap();
    let enter = ["nsenter", "-t", &pid.to_string(), "-n"].map(str::to_owned);
    let enter: Vec<&str> = enter.iter().map(String::as_str).collect();
    let _server = start("server", &enter);
    outbound();
    loopback();
    inbound(&enter);
}

fn outbound() {
    for peer in PEER {
        let to = at(peer, 7000);
        assert_eq!(
            ask(to, b"GET / HTTP/1.1\r\n\r\n"),
            format!("outbound http to {to}"),
            "HTTP meets the request path, which knows where it was going"
        );
        assert_eq!(
            ask(to, b"\x00opaque"),
            "\0OPAQUE",
            "opaque bytes pass: the proxy's own connections are exempt"
        );
        let excluded = at(peer, 7100);
        assert_eq!(ask(excluded, b"GET / HTTP/1.1\r\n"), "GET / HTTP/1.1\r\n");
    }
}

/// Neither loopback nor the pod's own address leads through the proxy.
fn loopback() {
    for own in ["127.0.0.1", "::1", POD[0], POD[1]] {
        let listener = TcpListener::bind(at(own, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let answering = std::thread::spawn(move || shout(listener.accept().unwrap().0));
        assert_eq!(ask(to, b"get / http/1.1\r\n"), "GET / HTTP/1.1\r\n");
        answering.join().unwrap();
    }
    for own in ["127.0.0.1", "::1"] {
        let direct = at(own, 15001);
        assert_eq!(ask(direct, b"GET / HTTP/1.1\r\n\r\n"), "", "no open relay");
        assert_eq!(ask(direct, b""), "");
    }
}

fn inbound(enter: &[&str]) {
    let _apps: Vec<_> = POD
        .iter()
        .map(|own| {
            let listener = TcpListener::bind(at(own, 8000)).unwrap();
            std::thread::spawn(move || {
                while let Ok((socket, _)) = listener.accept() {
                    shout(socket);
                }
            })
        })
        .collect();
    for pod in POD {
        let to = at(pod, 8000);
        assert_eq!(
            ask_from_peer(enter, to, "GET / HTTP/1.1\r\n\r\n"),
            format!("inbound http to {to}")
        );
        assert_eq!(ask_from_peer(enter, to, "opaque"), "OPAQUE");
        for port in OWN_PORTS {
            let own = at(pod, port);
            for what in ["GET / HTTP/1.1\r\n\r\n", "opaque", ""] {
                assert_eq!(ask_from_peer(enter, own, what), "", "{own}");
            }
        }
    }
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}

/// Says `what`, ends its half, and returns all that comes back; who does not get through gets "".
fn ask(to: SocketAddr, what: &[u8]) -> String {
    let Ok(mut socket) = TcpStream::connect(to) else {
        return String::new();
    };
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let _ = socket.write_all(what);
    let _ = socket.shutdown(Shutdown::Write);
    let mut heard = Vec::new();
    match socket.read_to_end(&mut heard) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("{to}: neither an answer nor an end")
        }
        _ => String::from_utf8(heard).unwrap(),
    }
}

fn shout(mut socket: TcpStream) {
    let mut heard = Vec::new();
    let _ = socket.read_to_end(&mut heard);
    let _ = socket.write_all(&heard.to_ascii_uppercase());
}

fn ask_from_peer(enter: &[&str], to: SocketAddr, what: &str) -> String {
    let output = as_role("client", enter)
        .env("TO", to.to_string())
        .env("WHAT", what)
        .output()
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let (_, heard) = output.split_once("HEARD<").expect("the client ran");
    heard.split_once('>').unwrap().0.to_owned()
}

fn client() {
    let to = std::env::var("TO").unwrap().parse().unwrap();
    let what = std::env::var("WHAT").unwrap();
    println!("\nHEARD<{}>", ask(to, what.as_bytes()));
}

/// Shouts back whatever it hears, at two ports of both families.
fn server() {
    let listeners: Vec<_> = [7000, 7100]
        .map(|port| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap())
        .into();
    say_ready();
    let serving = listeners.into_iter().map(|listener| {
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let socket = socket.unwrap();
                std::thread::spawn(move || shout(socket));
            }
        })
    });
    for thread in serving.collect::<Vec<_>>() {
        thread.join().unwrap();
    }
}

/// Tells where a connection was going.
struct WhereTo;

impl WhereTo {
    async fn tell(mut io: Io, known: String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut heard = Vec::new();
        let _ = io.read_to_end(&mut heard).await;
        let _ = io.write_all(known.as_bytes()).await;
        let _ = io.shutdown().await;
    }
}

impl ServeHttp for WhereTo {
    async fn inbound(&self, conn: InboundConn) {
        Self::tell(conn.io, format!("inbound http to {}", conn.local)).await;
    }

    async fn outbound(&self, conn: OutboundConn) {
        Self::tell(conn.io, format!("outbound http to {}", conn.destination)).await;
    }
}

/// A permissive proxy of a pod that is in no mesh otherwise.
fn proxy() {
    let (store, writer) = Store::new(StoreLimits {
        lookup_wait: Duration::ZERO,
        ..StoreLimits::default()
    });
    writer.set_connected(false);
    writer.set_mesh(MeshConfig {
        outbound: OutboundPolicy::AllowAny,
        ..MeshConfig::default()
    });
    writer.set_inbound(Inbound::new("shop", "web-1", MtlsMode::Permissive));
    let tls = MeshTls::new(
        Arc::new(TrustStore::new(TrustBundle::default())),
        Arc::new(WorkloadIdentity::new()),
        Arc::new(SystemClock),
        KeyExchange::default(),
    );
    let proxy = Proxy {
        store,
        tls: tls.unwrap(),
        telemetry: Telemetry::new(Default::default()),
        leaving: Leaving::new(),
        addresses: POD.map(|ip| ip.parse().unwrap()).into(),
        applications: [].into(),
        limits: Limits::default(),
    };
    let listeners = Listener::intercepting().unwrap();
    let (acceptors, mut seats) = seats(listeners, 1, &proxy.leaving, 1024);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::task::spawn_local(acceptors.run());
        say_ready();
        run_worker(proxy, seats.remove(0), |_| WhereTo)
            .await
            .unwrap();
    });
}
