//! Whether, when and how often a request is sent again. Pure but for the budget it draws on and its jitter.
//!
//! Two kinds that must not be confused. A *resend* of what was never delivered: whatever the method, whatever the
//! policy, since nobody saw it. A *retry* of what an application may have seen: only if the policy asks for it, the
//! method is idempotent (RFC 9110 9.2.2) or declared safe, the body can be replayed and the budget allows it.

use std::time::Duration;

use http::{Method, StatusCode};
use rand::Rng;
use smallvec::SmallVec;
use weft_proxy_config::{BackendState, RetryOn, RetryPolicy};

use crate::failure::grpc_status_of;
use crate::sent::SendError;

/// Resends of one request; more would not find what these did not.
const MAX_RESENDS: u8 = 4;

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// No connection could be had.
    NotConnected,
    /// A limit of the circuit breaker.
    Overloaded,
    Sent(SendError),
    /// Its own time ran out.
    TimedOut,
    /// The head of an answer came.
    Answered(StatusCode, Option<u8>),
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send it again after this pause.
    Again(Duration),
    /// Leave it at this. True: more attempts would have been made if there were any left.
    Stop { exhausted: bool },
}

/// The attempts of one request.
#[derive(Debug)]
pub(crate) struct Attempts {
    idempotent: bool,
    /// Idempotent, or declared safe to repeat.
    repeatable: bool,
    resends: u8,
    retries: u8,
    /// Endpoints that were tried.
    pub(crate) tried: SmallVec<[u64; 4]>,
}

impl Attempts {
    pub(crate) fn new(method: &Method, policy: &RetryPolicy) -> Self {
        let idempotent = is_idempotent(method);
        Self {
            idempotent,
            repeatable: idempotent || policy.non_idempotent,
            resends: 0,
            retries: 0,
            tried: SmallVec::new(),
        }
    }

    /// Whether another attempt follows one that ended like this. `replayable`: the body can be sent once more.
    /// `fresh`: is an endpoint left beside these?
    pub(crate) fn next(
        &mut self,
        ended: Ended,
        policy: &RetryPolicy,
        budget: Option<&BackendState>,
        replayable: bool,
        fresh: impl FnOnce(&[u64]) -> bool,
        rng: &mut impl Rng,
    ) -> Next {
        let undelivered = matches!(
            ended,
            Ended::NotConnected | Ended::Sent(SendError::Undelivered | SendError::Refused)
        );
        let stale = ended == Ended::Sent(SendError::Stale) && self.idempotent;
        if (undelivered || stale) && replayable && self.resends < MAX_RESENDS {
            self.resends += 1;
            let pause =
                if stale || ended == Ended::Sent(SendError::Undelivered) || fresh(&self.tried) {
                    Duration::ZERO
                } else {
                    backoff(policy, self.resends, rng)
                };
            return Next::Again(pause);
        }
        let wanted = condition(ended)
            .iter()
            .any(|condition| policy.retries(*condition));
        if !wanted || !(self.repeatable || undelivered) || !replayable {
            return Next::Stop { exhausted: false };
        }
        let now = tokio::time::Instant::now().into_std();
        if self.retries >= policy.attempts
            || !budget.is_some_and(|budget| budget.try_withdraw(now, policy))
        {
            return Next::Stop {
                exhausted: policy.attempts > 0,
            };
        }
        self.retries += 1;
        Next::Again(backoff(policy, self.retries, rng))
    }
}

/// Safe to do twice (RFC 9110 9.2.2).
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// Exponential with full jitter: anywhere between nothing and the step.
fn backoff(policy: &RetryPolicy, nth: u8, rng: &mut impl Rng) -> Duration {
    let step = policy
        .backoff_base
        .saturating_mul(1 << u32::from(nth - 1).min(16));
    step.min(policy.backoff_max)
        .mul_f64(rng.random_range(0.0..=1.0))
}

/// The conditions that an end meets.
fn condition(ended: Ended) -> SmallVec<[RetryOn; 2]> {
    let mut met = SmallVec::new();
    match ended {
        Ended::NotConnected | Ended::Sent(SendError::Undelivered | SendError::Refused) => {
            met.push(RetryOn::ConnectFailure);
        }
        Ended::Sent(SendError::Reset | SendError::Stale) => met.push(RetryOn::Reset),
        Ended::TimedOut => met.push(RetryOn::AttemptTimeout),
        Ended::Sent(SendError::ClientGone | SendError::Unsendable) | Ended::Overloaded => {}
        Ended::Answered(_, Some(grpc)) => met.extend(match grpc {
            1 => Some(RetryOn::GrpcCancelled),
            4 => Some(RetryOn::GrpcDeadlineExceeded),
            8 => Some(RetryOn::GrpcResourceExhausted),
            13 => Some(RetryOn::GrpcInternal),
            14 => Some(RetryOn::GrpcUnavailable),
            _ => None,
        }),
        Ended::Answered(status, None) => {
            if status.is_server_error() {
                met.push(RetryOn::ServerError);
            }
            if matches!(status.as_u16(), 502..=504) {
                met.push(RetryOn::GatewayError);
            }
        }
    }
    met
}

/// How the head of an answer ends an attempt. A gRPC status in it (trailers-only) is the answer's.
pub(crate) fn answered<B>(response: &http::Response<B>, grpc: bool) -> Ended {
    let status = if grpc {
        grpc_status_of(response.headers())
    } else {
        None
    };
    Ended::Answered(response.status(), status)
}

/// Speaks against the endpoint (outlier detection).
pub(crate) fn is_fault(ended: Ended) -> bool {
    match ended {
        Ended::NotConnected | Ended::TimedOut => true,
        Ended::Sent(error) => matches!(error, SendError::Reset | SendError::Refused),
        Ended::Overloaded => false,
        // Statuses that tell of the server: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
        Ended::Answered(_, Some(grpc)) => matches!(grpc, 2 | 4 | 13 | 14 | 15),
        Ended::Answered(status, None) => status.is_server_error(),
    }
}

#[cfg(test)]
mod tests;
