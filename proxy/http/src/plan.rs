//! The outcome of routing an outbound request: where it goes and what holds on the way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_proxy_config::{Backend, HttpRule, WeightedBackend};
use weft_proxy_telemetry::ServiceLabel;

use crate::upstream::To;

/// Where a request goes and what holds on the way.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) to: To<'a>,
    /// The rule that led there, whose filters apply to the answer.
    pub(crate) rule: Option<&'a HttpRule>,
    pub(crate) weighted: Option<&'a WeightedBackend>,
    /// Of the whole request.
    pub(crate) deadline: Option<Instant>,
    /// Of one attempt, as the rule has it.
    pub(crate) attempt_timeout: Option<Duration>,
}

impl<'a> Plan<'a> {
    /// Without a rule: to whom was dialled.
    pub(crate) fn direct(to: To<'a>) -> Self {
        let deadline = match to {
            To::Backend(backend) => deadline(None, backend),
            To::Address(_) => None,
        };
        Self {
            to,
            rule: None,
            weighted: None,
            deadline,
            attempt_timeout: None,
        }
    }
}

/// The rule's timeout, else the policy's; zero means none.
pub(crate) fn deadline(of_rule: Option<Duration>, backend: &Backend) -> Option<Instant> {
    let timeout = of_rule.or_else(|| backend.load().policy.request_timeout)?;
    (!timeout.is_zero()).then(|| now() + timeout)
}

/// The runtime's clock, so that tests can stop it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A backend's name in records.
pub(crate) fn label(backend: &Arc<Backend>) -> ServiceLabel {
    ServiceLabel {
        namespace: backend.namespace().clone(),
        name: backend.name().clone(),
        port: backend.port(),
    }
}
