//! Metrics of the proxy itself: its certificate, its link to the control plane, its readiness.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use weft_proxy_xds::StatusHandle;

use crate::readiness::Readiness;

/// Reads what it tells at each scrape.
#[derive(Debug)]
pub struct ProcessMetrics {
    /// Readiness and what it rests on.
    pub readiness: Arc<Readiness>,
    /// How the stream client is doing.
    pub status: StatusHandle,
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = self.status.load();
        let now = SystemTime::now();
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)
        };
        let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
        let ready = self.readiness.report().ready;
        gauge(
            "weft_proxy_ready",
            "1 when the proxy is ready",
            truth(ready),
        )?;
        gauge(
            "weft_proxy_control_plane_connected",
            "1 while the stream to the control plane is up",
            truth(status.connected),
        )?;
        gauge(
            "weft_proxy_resources_refused",
            "Resources of which the newest state is not in force because it cannot be read",
            status.refused.len() as f64,
        )?;
        if let Some(age) = status.snapshot_age(now) {
            gauge(
                "weft_proxy_snapshot_age_seconds",
                "Age of the last configuration that was in force as a whole",
                age.as_secs_f64(),
            )?;
        }
        if let Some(certificate) = &status.certificate {
            let expiry = certificate.not_after.duration_since(UNIX_EPOCH);
            gauge(
                "weft_proxy_certificate_expiry_timestamp_seconds",
                "When the workload's certificate ends",
                expiry.unwrap_or_default().as_secs_f64(),
            )?;
            gauge(
                "weft_proxy_certificate_alarm",
                "1 when the certificate should have been renewed long ago",
                truth(certificate.alarm),
            )?;
        }
        Ok(())
    }
}
