use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use prometheus_client::registry::Registry;
use weft_identity::SpiffeId;

use super::*;
use crate::flag::Flag;
use crate::record::RequestProtocol;

fn request(telemetry: &WorkerTelemetry, service: &str, status: u16) -> RequestRecord {
    let mut record = RequestRecord::new(
        Direction::Outbound,
        RequestProtocol::Http1,
        Method::GET,
        "/cart?id=1".parse().unwrap(),
        "10.0.0.1:4000".parse().unwrap(),
        telemetry.trace(&http::HeaderMap::new()),
    );
    record.source = Some(SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/web").unwrap());
    record.destination = Some(ServiceLabel {
        namespace: "shop".into(),
        name: service.into(),
        port: 80,
    });
    record.status = status;
    record.attempts = 3;
    record.mtls = true;
    record.ended = Some(record.started + Duration::from_millis(7));
    record
}

fn scrape(telemetry: &Arc<Telemetry>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(telemetry.collector());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}

#[test]
fn a_scrape_adds_up_the_workers() {
    let telemetry = Telemetry::new(Settings::default());
    for worker in [telemetry.worker(), telemetry.worker()] {
        worker.record(request(&worker, "cart", 200), true);
        worker.connections_open(Direction::Outbound, 1);
    }
    let text = scrape(&telemetry);
    let labels = concat!(
        "direction=\"outbound\",source_namespace=\"shop\",source_service_account=\"web\",",
        "destination_namespace=\"shop\",destination=\"cart\",destination_port=\"80\",",
        "protocol=\"http1\",status=\"200\",flag=\"\",mtls=\"true\""
    );
    for line in [
        format!("weft_requests_total{{{labels}}} 2"),
        format!("weft_request_retries_total{{{labels}}} 4"),
        format!("weft_request_duration_seconds_sum{{{labels}}} 0.014"),
        format!("weft_request_duration_seconds_bucket{{le=\"0.005\",{labels}}} 0"),
        format!("weft_request_duration_seconds_bucket{{le=\"0.01\",{labels}}} 2"),
        "weft_connections_open{direction=\"outbound\"} 2".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
}

#[test]
fn past_the_cap_the_rest_counts_as_other() {
    let telemetry = Telemetry::new(Settings {
        max_series: 2,
        ..Settings::default()
    });
    let worker = telemetry.worker();
    for service in ["a", "b", "c", "d"] {
        worker.record(request(&worker, service, 200), true);
    }
    worker.record(request(&worker, "a", 200), true);
    let text = scrape(&telemetry);
    assert!(text.contains("destination=\"other\""), "{text}");
    assert!(!text.contains("destination=\"c\""), "{text}");
    assert_eq!(text.matches("weft_requests_total{").count(), 3, "{text}");
}

#[test]
fn idle_series_are_swept_and_come_back() {
    let telemetry = Telemetry::new(Settings::default());
    let worker = telemetry.worker();
    worker.record(request(&worker, "a", 200), true);
    worker.record(request(&worker, "b", 200), true);
    telemetry.sweep();
    worker.record(request(&worker, "a", 200), true);
    telemetry.sweep();
    let text = scrape(&telemetry);
    assert!(
        text.contains("destination=\"a\"") && !text.contains("destination=\"b\""),
        "{text}"
    );
    worker.record(request(&worker, "b", 200), true);
    assert!(scrape(&telemetry).contains("destination=\"b\""));
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_access_log_is_a_json_object_a_line() {
    let sink = Sink::default();
    let log = AccessLog::start(sink.clone()).unwrap();
    let telemetry = Telemetry::new(Settings {
        access_log: Some(log),
        ..Settings::default()
    });
    let worker = telemetry.worker();
    let mut denied = request(&worker, "cart", 403);
    denied.flag = Some(Flag::Denied);
    denied.decision = Some("shop/only-web#0@1a2b3c4d".into());
    worker.record(denied, true);
    worker.record(request(&worker, "cart", 200), false);
    worker.record_connection(
        ConnectionRecord::new(Direction::Inbound, "10.0.0.9:5".parse().unwrap()),
        true,
    );

    // The writer flushes whenever its queue is empty, so both lines arrive without any further event.
    let lines = loop {
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        if text.lines().count() == 2 && text.ends_with('\n') {
            break text;
        }
        std::thread::yield_now();
    };
    let line: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(line["decision"], "shop/only-web#0@1a2b3c4d");
    assert_eq!(line["flag"], "denied");
    assert_eq!(line["status"], 403);
    assert_eq!(line["duration_ms"], 7.0);
    assert_eq!(line["source"], "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(line["destination"], "shop/cart:80");
    let line: serde_json::Value = serde_json::from_str(lines.lines().nth(1).unwrap()).unwrap();
    assert_eq!(line["kind"], "connection");
}
