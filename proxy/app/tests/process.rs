//! The real program without a control plane: it starts, says what is missing, lets nothing in, and leaves
//! when told to.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A running `weft-proxy`, killed when dropped.
struct Running {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    socket: PathBuf,
    _directory: TempDir,
}

impl Running {
    fn start(more: &[String]) -> Self {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let socket = directory.path().join("admin.sock");
        let mut child = Command::new(env!("CARGO_BIN_EXE_weft-proxy"))
            .args([
                "run",
                "--namespace=shop",
                "--pod=web-1",
                "--pod-ip=127.0.0.1",
            ])
            .args(["--control-plane=127.0.0.1:1", "--interception=off"])
            .args(["--admin=127.0.0.1:0", "--metrics-port=0", "--health-port=0"])
            .arg(format!("--trust-bundle={}", path("bundle.pem")))
            .arg(format!("--token-file={}", path("token")))
            .arg(format!("--state-dir={}", path("state")))
            .arg(format!("--admin-socket={}", socket.display()))
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        // The stream client starts after everything is bound.
        let mut line = String::new();
        while !line.contains("no stream to the control plane") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended at start");
        }
        Self {
            child,
            log,
            socket,
            _directory: directory,
        }
    }

    /// An admin request: status line and body.
    fn admin(&self, method: &str, path: &str, body: &str) -> (String, String) {
        let mut socket = UnixStream::connect(&self.socket).unwrap();
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    fn terminate(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of this machine that no other test uses.
fn own_address(port: u16) -> SocketAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    (Ipv4Addr::new(127, 99, high, low), port).into()
}

fn ask(to: SocketAddr, what: &[u8]) -> String {
    let mut socket = TcpStream::connect(to).unwrap();
    let _ = socket.write_all(what);
    let _ = socket.shutdown(Shutdown::Write);
    let mut heard = Vec::new();
    let _ = socket.read_to_end(&mut heard);
    String::from_utf8_lossy(&heard).into_owned()
}

#[test]
fn a_proxy_that_never_saw_a_control_plane_lets_nothing_through_and_leaves_when_told() {
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    app.set_nonblocking(true).unwrap();
    let (pod, out) = (own_address(8000), own_address(9000));
    let mut running = Running::start(&[
        format!("--inbound-listener={pod}={}", app.local_addr().unwrap()),
        format!("--outbound-listener={out}={}", app.local_addr().unwrap()),
    ]);

    let (status, missing) = running.admin("GET", "/readyz", "");
    assert!(status.contains("503"), "{status}");
    for named in [
        "a valid certificate",
        "the mesh's settings",
        "inbound policy",
    ] {
        assert!(missing.contains(named), "{missing}");
    }
    let (_, config) = running.admin("GET", "/config", "");
    assert!(config.contains(r#""pod":"shop/web-1""#), "{config}");
    assert!(config.contains(r#""connected":false"#), "{config}");

    for what in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x00opaque", b""] {
        assert_eq!(ask(pod, what), "");
        let answer = ask(out, what);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 503"),
            "{answer}"
        );
    }
    assert!(app.accept().is_err(), "nobody was let through to it");

    assert!(running.admin("PUT", "/log", "debug").0.contains("204"));
    assert_eq!(running.admin("GET", "/log", "").1, "debug\n");
    assert!(running.admin("PUT", "/log", "a=b=c").0.contains("400"));
    let (_, drain) = running.admin("POST", "/drain", "");
    assert!(drain.contains(r#""phase":"draining""#), "{drain}");
    assert_eq!(ask(pod, b"still accepted, still refused"), "");

    running.terminate();
    assert!(running.child.wait().unwrap().success());
    let mut rest = String::new();
    running.log.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("panicked"), "{rest}");
}

#[test]
fn what_cannot_be_started_says_why() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_weft-proxy"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let needed = run(&["run"]);
    for flag in [
        "--namespace",
        "--pod ",
        "--pod-ip",
        "--control-plane",
        "--trust-bundle",
    ] {
        assert!(needed.contains(flag), "{flag}: {needed}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let clash = run(&[
        "run",
        "--namespace=shop",
        "--pod=web-1",
        "--pod-ip=127.0.0.1",
        "--control-plane=127.0.0.1:1",
        "--trust-bundle=/nowhere",
        "--interception=off",
        &format!("--outbound-listener={taken}=127.0.0.1:1"),
    ]);
    assert!(
        clash.contains(&format!("cannot listen on {taken}")),
        "{clash}"
    );
}
