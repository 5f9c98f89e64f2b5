//! How a pod that has no certificate yet proves which one it is: by a one-time join token, or in a
//! cluster by the service account token that is projected into it.

use std::time::SystemTime;

use tonic::Status;
use tonic::metadata::MetadataMap;
use weft_identity::PodRef;

use super::bearer;
use super::join::{JoinRecords, Token};
use crate::kubernetes::token_review::{BearerToken, ReviewError, TokenPod, TokenReviewer};

/// Longest service account token.
const MAX_TOKEN: usize = 16 * 1024;

/// What is accepted.
pub(crate) enum FirstContact {
    /// Nothing: only renewals are served.
    Nobody,
    JoinRecords(JoinRecords),
    TokenReview(TokenReviewer),
}

/// What was shown, and holds.
pub(super) enum Introduction {
    /// To be used up.
    Join(Token),
    Pod(TokenPod),
}

impl FirstContact {
    /// Checks that what is shown is for the claimed pod.
    pub(super) async fn prove(
        &self,
        metadata: &MetadataMap,
        pod: &PodRef,
        now: SystemTime,
    ) -> Result<Introduction, Status> {
        match self {
            Self::Nobody => Err(Status::unauthenticated(
                "only renewals are served here: show a certificate (join tokens need --join-dir)",
            )),
            Self::JoinRecords(records) => {
                let token = Token::of(metadata)?.ok_or_else(|| missing("join token"))?;
                records.check(&token, pod, now)?;
                Ok(Introduction::Join(token))
            }
            Self::TokenReview(reviewer) => {
                let token = bearer::token(metadata, MAX_TOKEN)?;
                let token = token.ok_or_else(|| missing("service account token"))?;
                let shown = reviewer.review(&BearerToken::new(token)).await;
                let shown = shown.map_err(|error| review_status(&error))?;
                is_for(&shown, pod)?;
                Ok(Introduction::Pod(shown))
            }
        }
    }
}

fn missing(what: &str) -> Status {
    Status::unauthenticated(format!(
        "show a certificate or a {what} (authorization: Bearer TOKEN)"
    ))
}

fn is_for(shown: &TokenPod, claimed: &PodRef) -> Result<(), Status> {
    if shown.pod == *claimed {
        return Ok(());
    }
    Err(Status::permission_denied(format!(
        "the token is bound to pod {}, not to {claimed}",
        shown.pod
    )))
}

fn review_status(error: &ReviewError) -> Status {
    let message = error.to_string();
    match error {
        ReviewError::Unavailable(_) => Status::unavailable(message),
        ReviewError::NotAccepted(_) => Status::unauthenticated(message),
        ReviewError::NoServiceAccount(_) | ReviewError::NoPod => Status::permission_denied(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn a_token_speaks_for_its_own_pod_only() {
        let shown = TokenPod {
            pod: "shop/web-1".parse().unwrap(),
            uid: "u".to_owned(),
            service_account: "web".to_owned(),
        };
        assert!(is_for(&shown, &"shop/web-1".parse().unwrap()).is_ok());
        for other in ["shop/web-2", "bank/web-1"] {
            let refused = is_for(&shown, &other.parse().unwrap()).unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied);
        }
    }

    #[test]
    fn only_an_api_server_that_is_away_is_worth_another_try() {
        let away = ReviewError::Unavailable("it does not answer".to_owned());
        assert_eq!(review_status(&away).code(), Code::Unavailable);
        let expired = ReviewError::NotAccepted("it has expired".to_owned());
        assert_eq!(review_status(&expired).code(), Code::Unauthenticated);
        assert_eq!(
            review_status(&ReviewError::NoPod).code(),
            Code::PermissionDenied
        );
    }
}
