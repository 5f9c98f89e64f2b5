//! Prometheus metrics, read off the state when they are asked for.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use weft_certs::{IssuerExpiry, RotationPhase};
use weft_model::{Kind, Reason};

use super::{Admin, Failure};

type Labels = Vec<(&'static str, String)>;

const CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let mut registry = Registry::with_prefix("weft_control_plane");
    streams(&admin, &mut registry);
    objects(&admin, &mut registry);
    watches(&admin, &mut registry);
    certificates(&admin, &mut registry);
    injections(&admin, &mut registry);
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(CONTENT_TYPE, CONTENT)], text).into_response(),
        Err(error) => Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(value as f64);
    registry.register(name, help, gauge);
}

fn streams(admin: &Admin, registry: &mut Registry) {
    let epoch = admin.server.epoch().counter;
    let proxies = admin.server.proxies();
    let slowest = proxies.iter().map(|proxy| proxy.confirmed).min();
    let refused: usize = proxies.iter().map(|proxy| proxy.refused.len()).sum();
    let subscriptions: usize = proxies.iter().map(|proxy| proxy.subscriptions).sum();
    let ready = u64::from(admin.server.is_ready());
    gauge(registry, "ready", "Every source has been read", ready);
    gauge(registry, "epoch", "Changes of the world published", epoch);
    let help = "The epoch that every connected proxy has confirmed";
    gauge(registry, "epoch_confirmed", help, slowest.unwrap_or(epoch));
    gauge(
        registry,
        "proxies",
        "Proxies connected",
        proxies.len() as u64,
    );
    let help = "Names that proxies are subscribed to";
    gauge(registry, "subscriptions", help, subscriptions as u64);
    let help = "Resources that proxies refuse at present";
    gauge(registry, "refused_resources", help, refused as u64);
}

fn objects(admin: &Admin, registry: &mut Registry) {
    let objects = Family::<Labels, Gauge>::default();
    for (kind, count) in admin.mesh.objects() {
        let labels = vec![("kind", kind.to_string())];
        objects.get_or_create(&labels).set(count as i64);
    }
    registry.register("objects", "Objects of the world", objects);
    let findings = Family::<Labels, Gauge>::default();
    for severity in ["error", "warning", "info"] {
        findings
            .get_or_create(&vec![("severity", severity.to_owned())])
            .set(0);
    }
    let not_meshed = Family::<Labels, Gauge>::default();
    for finding in admin.findings() {
        if finding.kind == Kind::Pod.as_str() && finding.reason == Reason::NotMeshed.as_str() {
            let labels = vec![("namespace", finding.namespace)];
            not_meshed.get_or_create(&labels).inc();
        }
        findings
            .get_or_create(&vec![("severity", finding.severity)])
            .inc();
    }
    registry.register("diagnostics", "What is wrong with the objects", findings);
    let help = "Pods that should have a sidecar and run without one";
    registry.register("pods_without_sidecar", help, not_meshed);
}

/// The watches of a cluster; of folders there are none.
fn watches(admin: &Admin, registry: &mut Registry) {
    let in_sync = Family::<Labels, Gauge>::default();
    let silence = Family::<Labels, Gauge>::default();
    for watched in admin.mesh.watched() {
        let labels = vec![("resource", watched.resource)];
        let is_in_sync = watched.is_listed && watched.failure.is_none();
        in_sync.get_or_create(&labels).set(is_in_sync.into());
        if let Some(heard) = watched.heard {
            let seconds = heard.elapsed().as_secs();
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            silence.get_or_create(&labels).set(seconds);
        }
    }
    let help = "The resource has been listed, and its watch is not failing";
    registry.register("watch_in_sync", help, in_sync);
    let help = "Time since the API server last said anything about the resource";
    registry.register("watch_silent_seconds", help, silence);
}

fn certificates(admin: &Admin, registry: &mut Registry) {
    let issuing = u64::from(admin.authority.is_issuing());
    let help = "Whether certificates can be issued: 0 is an alarm, nobody gets or renews one";
    gauge(registry, "issuing", help, issuing);
    let help = "Whether this replica is the one that writes: the CA, trust anchors, status";
    gauge(registry, "leads", help, admin.authority.may_change().into());
    let help = "Whether this replica has a certificate authority at hand";
    let phase = admin.authority.phase();
    gauge(registry, "authority_at_hand", help, phase.is_some().into());
    if let Some(expiry) = admin.authority.expiry() {
        issuer(&expiry, registry);
    }
    let phase = match phase {
        None | Some(RotationPhase::Stable) => 0,
        Some(RotationPhase::Announced { .. }) => 1,
        Some(RotationPhase::Switched { .. }) => 2,
    };
    let help = "Root rotation: 0 none, 1 new root announced, 2 issuer switched";
    gauge(registry, "root_rotation_phase", help, phase);
    let (issued, refused) = admin.authority.counts();
    let help = "Certificates issued to pods since the start";
    gauge(registry, "certificates_issued", help, issued);
    let help = "Requests for certificates refused since the start";
    gauge(registry, "certificates_refused", help, refused);
}

/// The webhook; without a cluster there is none.
fn injections(admin: &Admin, registry: &mut Registry) {
    let Some(webhook) = &admin.webhook else {
        return;
    };
    let pods = Family::<Labels, Counter>::default();
    for (outcome, count) in webhook.injector.counts() {
        let labels = vec![("outcome", outcome.to_owned())];
        pods.get_or_create(&labels).inc_by(count);
    }
    let help = "New pods that the API server asked about, by outcome";
    registry.register("injections", help, pods);
    let help = "Whether the API server would believe the webhook's certificate";
    let believed = admin.webhook_is_believed();
    gauge(registry, "webhook_believed", help, believed.into());
}

fn issuer(expiry: &IssuerExpiry, registry: &mut Registry) {
    let help = "Time until the certificate authority's own certificate expires";
    gauge(
        registry,
        "issuer_expires_in_seconds",
        help,
        expiry.left.as_secs(),
    );
    let help = "It is time to rotate the root";
    gauge(registry, "issuer_expiry_alarm", help, expiry.alarm.into());
}
