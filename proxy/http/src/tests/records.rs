//! One record per request on either side, whatever becomes of it; and the trace that it belongs to.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Version;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use weft_proxy_config::TrafficPolicy;
use weft_proxy_telemetry::{AccessLog, Telemetry};

use super::app::{App, Client, empty, full, text};
use super::mesh::{Mesh, run};

/// Lines of an access log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn telemetry(&self) -> Arc<Telemetry> {
        Telemetry::new(weft_proxy_telemetry::Settings {
            access_log: Some(AccessLog::start(self.clone()).unwrap()),
            ..weft_proxy_telemetry::Settings::default()
        })
    }

    /// Waits until there are so many.
    async fn wait_for(&self, many: usize) -> Vec<String> {
        loop {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if lines.len() >= many && text.ends_with('\n') {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[test]
fn every_request_is_recorded_once_on_either_side_also_when_it_is_cancelled() {
    run(async {
        let (outside, inside) = (Lines::default(), Lines::default());
        let app = App::start(|request| async move {
            if request.uri().path() == "/hang" {
                std::future::pending::<()>().await;
            }
            text("four")
        })
        .await;
        let mesh = Mesh::new();
        let server = mesh.server_with(app.address, inside.telemetry()).await;
        let client = mesh.client_with(outside.telemetry()).await;
        client.declare([server.endpoint()], TrafficPolicy::default(), |_| None);
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        let request = calling.request("POST", "/a?b", full("123456"));
        super::app::body(calling.send(request).await.unwrap()).await;
        for lines in [&outside, &inside] {
            let line = lines.wait_for(1).await.remove(0);
            for part in [
                "\"POST\"",
                "/a?b",
                "200",
                "spiffe://cluster.local/ns/shop/sa/client",
            ] {
                let own_side_only = part.starts_with("spiffe") && line.contains("\"outbound\"");
                assert!(own_side_only || line.contains(part), "{part}: {line}");
            }
            assert!(
                line.contains(":6,") && line.contains(":4,") || line.contains(":4}"),
                "bytes: {line}"
            );
        }
        let request = calling.request("GET", "/hang", empty());
        let hanging = tokio::task::spawn_local(async move {
            let _ = calling.send(request).await;
        });
        while app.requests.get() < 2 {
            tokio::task::yield_now().await;
        }
        hanging.abort();
        for lines in [&outside, &inside] {
            let line = lines.wait_for(2).await.remove(1);
            assert!(line.contains("client-gone"), "{line}");
        }
        tokio::task::yield_now().await;
        assert_eq!(
            (
                outside.wait_for(2).await.len(),
                inside.wait_for(2).await.len()
            ),
            (2, 2)
        );
    });
}

#[test]
fn a_trace_goes_on_with_a_span_of_each_proxy() {
    run(async {
        let app = App::start(|request| async move {
            text(request.headers()["traceparent"].to_str().unwrap())
        })
        .await;
        let (client, _server) = super::forwarding::pair(&app).await;
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        let mut request = calling.request("GET", "/", empty());
        let sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        request
            .headers_mut()
            .insert("traceparent", sent.parse().unwrap());
        let got = super::app::body(calling.send(request).await.unwrap()).await;
        assert_eq!((&got[..36], &got[52..]), (&sent[..36], &sent[52..]));
        assert_ne!(got[36..52], sent[36..52]);
        let started = calling.get("/").await.1;
        assert!(started.starts_with("00-") && started[..35] != sent[..35]);
    });
}

#[test]
fn what_no_phase_saw_has_a_record_too() {
    run(async {
        let (outside, inside) = (Lines::default(), Lines::default());
        let app = App::echo().await;
        let mesh = Mesh::new();
        let server = mesh.server_with(app.address, inside.telemetry()).await;
        let client = mesh.client_with(outside.telemetry()).await;
        client.declare([server.endpoint()], TrafficPolicy::default(), |_| None);
        let large = format!(
            "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
            "x".repeat(100_000)
        );
        for (pod, lines) in [(&client, &outside), (&server, &inside)] {
            for (nth, (sent, status, flag)) in [
                ("GET  two HTTP/1.1\r\nhost: a\r\n\r\n", 400, "bad-request"),
                (&large, 431, "too-large"),
            ]
            .into_iter()
            .enumerate()
            {
                let mut socket = TcpStream::connect(pod.listener).await.unwrap();
                // It may be refused before all of it is written.
                let _ = socket.write_all(sent.as_bytes()).await;
                let line = lines.wait_for(nth + 1).await.remove(nth);
                for part in [&*format!("\"status\":{status}"), flag, "\"-\""] {
                    assert!(line.contains(part), "{part}: {line}");
                }
                let whom = if std::ptr::eq(lines, &outside) {
                    "web:80"
                } else {
                    ":8080"
                };
                assert!(line.contains(&format!("\"shop/{whom}\"")), "{whom}: {line}");
            }
            let mut calling = Client::connect(pod.listener, Version::HTTP_2).await;
            let mut request = calling.request("GET", "/", empty());
            let value = "x".repeat(100_000).parse().unwrap();
            request.headers_mut().insert("x-large", value);
            assert_eq!(calling.send(request).await.unwrap().status(), 431);
            let line = lines.wait_for(3).await.remove(2);
            assert!(line.contains("too-large"), "{line}");
        }
        assert_eq!(app.requests.get(), 0);
    });
}
