//! What the client tells of itself: its stream, its certificate, what it holds and what it refused.

use std::collections::HashMap;
use std::sync::Arc;

use weft_certs::RotationSchedule;

use super::{Client, StreamEnd};
use crate::session::Session;
use crate::status::{CertificateStatus, RefusedResource, Status, SubscribedResource};

impl Client {
    pub(super) fn change_status(&self, change: impl FnOnce(&mut Status)) {
        self.status
            .send_modify(|status| change(Arc::make_mut(status)));
    }

    pub(super) fn report_end(&self, end: &StreamEnd) {
        match end {
            StreamEnd::Renewed => tracing::debug!("opening a new stream with the new certificate"),
            // Streams move now and then, so that replicas share them.
            StreamEnd::Closed => tracing::info!(reason = %end, "opening a new stream"),
            _ => tracing::warn!(reason = %end, "no stream to the control plane"),
        }
        self.change_status(|status| {
            status.connected = false;
            status.last_error = Some(end.to_string());
        });
    }

    pub(super) fn report_certificate(&self) {
        let now = self.clock.now();
        let certificate = self
            .tls
            .identity()
            .current()
            .map(|identity| CertificateStatus {
                serial: identity.chain().serial().to_string(),
                not_after: identity.chain().not_after(),
                failed_renewals: self.schedule.as_ref().map_or(0, RotationSchedule::failures),
                alarm: self.schedule.as_ref().is_some_and(|s| s.alarm(now)),
            });
        self.change_status(|status| status.certificate = certificate);
    }

    pub(super) fn report_session(&self, session: &Session) {
        let now = self.clock.now();
        let mut versions: HashMap<_, _> = self
            .activation
            .active()
            .into_iter()
            .map(|active| ((active.kind, active.name), active.wire.version))
            .collect();
        let subscribed = session
            .subscribed()
            .iter()
            .flat_map(|(kind, names)| names.iter().map(move |name| (*kind, name.clone())))
            .map(|(kind, name)| SubscribedResource {
                kind: kind.to_string(),
                version: versions.remove(&(kind, name.clone())),
                name,
            })
            .collect();
        let refused = session
            .refused()
            .map(|(kind, name, fault)| RefusedResource {
                kind: kind.to_string(),
                name: name.to_owned(),
                field: fault.field.clone(),
                reason: fault.reason.clone(),
            })
            .collect();
        self.change_status(|status| {
            status.subscribed = subscribed;
            status.refused = refused;
            status.unconfirmed = !session.is_confirmed();
            if session.is_confirmed() {
                status.confirmed_at = Some(now);
            }
        });
    }
}
