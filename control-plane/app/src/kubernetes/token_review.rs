//! Who shows a service account token: the API server says, for audience `weft`, and only a token
//! that is bound to a pod counts. Tokens are sent to the API server and go nowhere else; no log,
//! error or debug output has one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{
    TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo,
};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use weft_identity::PodRef;

/// What the projected token must be made for.
const AUDIENCE: &str = "weft";
/// Reviews in flight; further ones wait for their turn.
const AT_ONCE: usize = 16;
/// From wanting a review to its result.
const PATIENCE: Duration = Duration::from_secs(5);
const USER: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// A token as a client showed it.
pub(crate) struct BearerToken(String);

impl BearerToken {
    pub fn new(token: &str) -> Self {
        Self(token.to_owned())
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(..)")
    }
}

/// The pod that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenPod {
    pub pod: PodRef,
    pub uid: String,
    pub service_account: String,
}

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReviewError {
    /// The token may be good: it is worth coming back.
    #[error("the API server cannot say whose the token is: {0}; try again shortly")]
    Unavailable(String),
    /// Expired, forged, of a deleted pod, for another audience.
    #[error("the API server does not accept the token for audience {AUDIENCE:?}: {0}")]
    NotAccepted(String),
    #[error("the token is of user {0:?}, which is no service account")]
    NoServiceAccount(String),
    #[error("the token is bound to no pod; a projected one is")]
    NoPod,
}

/// Asks the API server.
pub(crate) struct TokenReviewer {
    reviews: Api<TokenReview>,
    at_once: Semaphore,
}

impl TokenReviewer {
    pub fn new(client: Client) -> Self {
        Self {
            reviews: Api::all(client),
            at_once: Semaphore::new(AT_ONCE),
        }
    }

    /// The pod that the token is bound to.
    pub async fn review(&self, token: &BearerToken) -> Result<TokenPod, ReviewError> {
        let asked = async {
            // The semaphore is never closed.
            let _turn = self.at_once.acquire().await;
            let review = TokenReview {
                spec: TokenReviewSpec {
                    audiences: Some(vec![AUDIENCE.to_owned()]),
                    token: Some(token.0.clone()),
                },
                ..TokenReview::default()
            };
            self.reviews.create(&PostParams::default(), &review).await
        };
        let answer = timeout(PATIENCE, asked)
            .await
            .map_err(|_| ReviewError::Unavailable("it does not answer".to_owned()))?
            .map_err(|error| ReviewError::Unavailable(error.to_string()))?;
        read(answer.status.unwrap_or_default())
    }
}

fn read(status: TokenReviewStatus) -> Result<TokenPod, ReviewError> {
    if status.authenticated != Some(true) {
        let why = status.error.filter(|error| !error.is_empty());
        let why = why.unwrap_or_else(|| "it is not valid".to_owned());
        return Err(ReviewError::NotAccepted(why));
    }
    // An authenticator that knows nothing of audiences says yes to a token for any.
    let audiences = status.audiences.unwrap_or_default();
    if !audiences.iter().any(|audience| audience == AUDIENCE) {
        return Err(ReviewError::NotAccepted(format!("it is for {audiences:?}")));
    }
    of_user(status.user.unwrap_or_default())
}

fn of_user(user: UserInfo) -> Result<TokenPod, ReviewError> {
    let name = user.username.unwrap_or_default();
    let account = name
        .strip_prefix(USER)
        .and_then(|rest| rest.split_once(':'));
    let Some((namespace, account)) = account else {
        return Err(ReviewError::NoServiceAccount(name));
    };
    let extra = user.extra.unwrap_or_default();
    let (Some(pod), Some(uid)) = (only(&extra, POD_NAME), only(&extra, POD_UID)) else {
        return Err(ReviewError::NoPod);
    };
    Ok(TokenPod {
        pod: PodRef::new(namespace, pod).map_err(|_| ReviewError::NoPod)?,
        uid: uid.to_owned(),
        service_account: account.to_owned(),
    })
}

fn only<'a>(extra: &'a BTreeMap<String, Vec<String>>, key: &str) -> Option<&'a str> {
    match extra.get(key).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted() -> TokenReviewStatus {
        let one = |value: &str| vec![value.to_owned()];
        let extra = [(POD_NAME, "web-1"), (POD_UID, "7c9d")];
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(one("weft")),
            user: Some(UserInfo {
                username: Some("system:serviceaccount:shop:web".to_owned()),
                extra: Some(
                    extra
                        .map(|(key, value)| (key.to_owned(), one(value)))
                        .into(),
                ),
                ..UserInfo::default()
            }),
            ..TokenReviewStatus::default()
        }
    }

    fn changed(change: impl FnOnce(&mut TokenReviewStatus)) -> Result<TokenPod, ReviewError> {
        let mut status = accepted();
        change(&mut status);
        read(status)
    }

    #[test]
    fn a_token_of_a_pod_says_which() {
        let pod = TokenPod {
            pod: "shop/web-1".parse().unwrap(),
            uid: "7c9d".to_owned(),
            service_account: "web".to_owned(),
        };
        assert_eq!(read(accepted()), Ok(pod));
    }

    #[test]
    fn nothing_less_will_do() {
        let expired = changed(|status| {
            status.authenticated = None;
            status.error = Some("token has expired".to_owned());
        });
        assert_eq!(
            expired,
            Err(ReviewError::NotAccepted("token has expired".to_owned()))
        );
        let elsewhere = changed(|status| status.audiences = Some(vec!["api".to_owned()]));
        assert!(matches!(elsewhere, Err(ReviewError::NotAccepted(_))));
        let unaware = changed(|status| status.audiences = None);
        assert!(matches!(unaware, Err(ReviewError::NotAccepted(_))));
        let person = changed(|status| {
            status.user.as_mut().unwrap().username = Some("system:node:a".to_owned());
        });
        assert!(matches!(person, Err(ReviewError::NoServiceAccount(_))));
        for key in [POD_NAME, POD_UID] {
            let unbound = changed(|status| {
                let extra = status.user.as_mut().unwrap().extra.as_mut();
                extra.unwrap().remove(key);
            });
            assert_eq!(unbound, Err(ReviewError::NoPod), "{key}");
        }
    }

    #[test]
    fn a_token_is_not_to_be_seen() {
        assert_eq!(
            format!("{:?}", BearerToken::new("secret")),
            "BearerToken(..)"
        );
    }
}
