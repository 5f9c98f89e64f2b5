//! The metrics view: adds up what the workers counted and encodes it for a scrape.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::flag::Flag;
use crate::metrics::{Telemetry, lock};
use crate::record::{Direction, ServiceLabel};
use crate::series::{BUCKETS, Caller, ConnectionKey, ConnectionTotals, RequestKey, RequestTotals};

/// A counter's name, help and value.
type Counter<T> = (&'static str, &'static str, fn(&T) -> u64);

/// The view of a scrape.
#[derive(Debug)]
pub(crate) struct Scrape(pub(crate) Arc<Telemetry>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        encode_requests(&self.0, &mut encoder)?;
        encode_connections(&self.0, &mut encoder)?;
        if let Some(log) = &self.0.settings.access_log {
            let dropped = ConstCounter::new(log.dropped());
            let help = "Access log lines lost because the writer could not keep up";
            let metric = encoder.encode_descriptor(
                "weft_access_log_dropped",
                help,
                None,
                MetricType::Counter,
            )?;
            dropped.encode(metric)?;
        }
        Ok(())
    }
}

fn encode_requests(
    telemetry: &Telemetry,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let mut totals: BTreeMap<RequestKey, RequestTotals> = BTreeMap::new();
    for shard in lock(&telemetry.requests).iter() {
        for (key, series) in shard.list().iter() {
            series.add_to(totals.entry(key.clone()).or_default());
        }
    }
    let counters: [Counter<RequestTotals>; 4] = [
        (
            "weft_requests",
            "Requests that have ended",
            RequestTotals::count,
        ),
        (
            "weft_request_retries",
            "Attempts after the first",
            |total| total.retries,
        ),
        (
            "weft_request_body_bytes",
            "Bytes of request bodies",
            |total| total.request_bytes,
        ),
        (
            "weft_response_body_bytes",
            "Bytes of response bodies",
            |total| total.response_bytes,
        ),
    ];
    for (name, help, value) in counters {
        encode_counter(encoder, name, help, &totals, value)?;
    }
    let help = "Time from a request's head to the last byte of its answer";
    let mut metric = encoder.encode_descriptor(
        "weft_request_duration",
        help,
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for (key, total) in &totals {
        let buckets: Vec<(f64, u64)> = BUCKETS
            .into_iter()
            .chain([f64::MAX])
            .zip(total.buckets.iter().copied())
            .collect();
        let seconds = total.micros as f64 / 1e6;
        metric
            .encode_family(key)?
            .encode_histogram::<[(&str, &str); 0]>(seconds, total.count(), &buckets, None)?;
    }
    Ok(())
}

fn encode_connections(
    telemetry: &Telemetry,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let mut totals: BTreeMap<ConnectionKey, ConnectionTotals> = BTreeMap::new();
    let mut open = [0_i64; 2];
    for shard in lock(&telemetry.connections).iter() {
        for (sum, part) in open.iter_mut().zip(&shard.open) {
            *sum += part.load(Relaxed);
        }
        for (key, series) in shard.list().iter() {
            series.add_to(totals.entry(key.clone()).or_default());
        }
    }
    let counters: [Counter<ConnectionTotals>; 3] = [
        (
            "weft_tcp_connections_closed",
            "Opaque connections that have ended",
            |total| total.closed,
        ),
        (
            "weft_tcp_received_bytes",
            "Bytes from callers of opaque connections",
            |total| total.bytes_in,
        ),
        (
            "weft_tcp_sent_bytes",
            "Bytes to callers of opaque connections",
            |total| total.bytes_out,
        ),
    ];
    for (name, help, value) in counters {
        encode_counter(encoder, name, help, &totals, value)?;
    }
    let help = "Connections open now, of any protocol";
    let mut metric =
        encoder.encode_descriptor("weft_connections_open", help, None, MetricType::Gauge)?;
    for (direction, value) in [Direction::Inbound, Direction::Outbound]
        .into_iter()
        .zip(open)
    {
        ConstGauge::new(value)
            .encode(metric.encode_family(&[("direction", direction.as_str())])?)?;
    }
    Ok(())
}

fn encode_counter<K: EncodeLabelSet, T>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    totals: &BTreeMap<K, T>,
    value: fn(&T) -> u64,
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (key, total) in totals {
        ConstCounter::new(value(total)).encode(metric.encode_family(key)?)?;
    }
    Ok(())
}

type Labels<'a> = prometheus_client::encoding::LabelSetEncoder<'a>;

fn label(encoder: &mut Labels<'_>, name: &str, value: &str) -> Result<(), fmt::Error> {
    prometheus_client::encoding::EncodeLabel::encode(&(name, value), encoder.encode_label())
}

fn encode_service(
    encoder: &mut Labels<'_>,
    names: [&str; 3],
    service: Option<&ServiceLabel>,
) -> Result<(), fmt::Error> {
    let Some(service) = service else {
        return Ok(());
    };
    label(encoder, names[0], &service.namespace)?;
    label(encoder, names[1], &service.name)?;
    label(encoder, names[2], &service.port.to_string())
}

fn encode_ends(
    encoder: &mut Labels<'_>,
    direction: Direction,
    source: Option<&Caller>,
    destination: Option<&ServiceLabel>,
) -> Result<(), fmt::Error> {
    label(encoder, "direction", direction.as_str())?;
    if let Some(source) = source {
        label(encoder, "source_namespace", &source.namespace)?;
        label(encoder, "source_service_account", &source.service_account)?;
    }
    encode_service(
        encoder,
        ["destination_namespace", "destination", "destination_port"],
        destination,
    )
}

impl EncodeLabelSet for RequestKey {
    fn encode(&self, encoder: &mut Labels<'_>) -> Result<(), fmt::Error> {
        encode_ends(
            encoder,
            self.direction,
            self.source.as_ref(),
            self.destination.as_ref(),
        )?;
        encode_service(
            encoder,
            ["backend_namespace", "backend", "backend_port"],
            self.backend.as_ref(),
        )?;
        label(encoder, "protocol", self.protocol.as_str())?;
        label(encoder, "status", &self.status.to_string())?;
        if let Some(status) = self.grpc_status {
            label(encoder, "grpc_status", &status.to_string())?;
        }
        label(encoder, "flag", self.flag.map_or("", Flag::as_str))?;
        label(encoder, "mtls", if self.mtls { "true" } else { "false" })
    }
}

impl EncodeLabelSet for ConnectionKey {
    fn encode(&self, encoder: &mut Labels<'_>) -> Result<(), fmt::Error> {
        encode_ends(
            encoder,
            self.direction,
            self.source.as_ref(),
            self.destination.as_ref(),
        )?;
        label(encoder, "flag", self.flag.map_or("", Flag::as_str))?;
        label(encoder, "mtls", if self.mtls { "true" } else { "false" })
    }
}
