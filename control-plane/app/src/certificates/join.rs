//! Join tokens: a record per token lets one pod in, once, until it expires.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tonic::Status;
use tonic::metadata::MetadataMap;
use weft_identity::PodRef;

/// Longest token; they have 32 random bytes in some encoding.
const MAX_TOKEN: usize = 1024;

/// The hash of a token that was shown; the token itself is not kept.
pub(super) struct Token(String);

impl Token {
    /// The bearer token of a request.
    pub fn of(metadata: &MetadataMap) -> Result<Option<Self>, Status> {
        let Some(value) = metadata.get("authorization") else {
            return Ok(None);
        };
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        match token {
            Some(token) if !token.is_empty() && token.len() <= MAX_TOKEN => {
                Ok(Some(Self::hashed(token)))
            }
            _ => Err(Status::unauthenticated(
                "the authorization must be of the form: Bearer TOKEN",
            )),
        }
    }

    fn hashed(token: &str) -> Self {
        let digest = Sha256::digest(token.as_bytes());
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

#[derive(Deserialize)]
struct Record {
    namespace: String,
    pod: String,
    /// Unix seconds.
    expires: u64,
}

/// The folder of records.
pub(super) struct JoinRecords {
    folder: PathBuf,
}

/// A record that was used up.
pub(super) struct Used {
    record: PathBuf,
    used: PathBuf,
}

impl JoinRecords {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Checks a token without using it up.
    pub fn check(&self, token: &Token, pod: &PodRef, now: SystemTime) -> Result<(), Status> {
        let (record, used) = self.paths(token);
        let text = match std::fs::read(&record) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let why = if used.exists() {
                    "the join token has been used already; a new one is needed"
                } else {
                    "the join token is not known here"
                };
                return Err(Status::unauthenticated(why));
            }
            Err(error) => return Err(unreadable(&record, &error.to_string())),
        };
        let record: Record = serde_json::from_slice(&text)
            .map_err(|error| unreadable(&record, &error.to_string()))?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if now >= record.expires {
            return Err(Status::unauthenticated("the join token has expired"));
        }
        if record.namespace != pod.namespace() || record.pod != pod.name() {
            return Err(Status::permission_denied(format!(
                "the join token is for another pod than {pod}"
            )));
        }
        Ok(())
    }

    /// Uses a token up. Of several that try at once, one succeeds.
    pub fn use_up(&self, token: &Token) -> Result<Used, Status> {
        let (record, used) = self.paths(token);
        match std::fs::rename(&record, &used) {
            Ok(()) => Ok(Used { record, used }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Status::unauthenticated(
                "the join token has been used already; a new one is needed",
            )),
            Err(error) => Err(unreadable(&record, &error.to_string())),
        }
    }

    fn paths(&self, token: &Token) -> (PathBuf, PathBuf) {
        let path = |ending: &str| self.folder.join(format!("{}.{ending}", token.0));
        (path("json"), path("used"))
    }
}

impl Used {
    /// Nothing came of it: the token may be shown again.
    pub fn give_back(self) {
        if let Err(error) = std::fs::rename(&self.used, &self.record) {
            tracing::warn!("cannot give a join token back: {error}");
        }
    }
}

fn unreadable(record: &Path, why: &str) -> Status {
    tracing::error!("join record {}: {why}", record.display());
    Status::internal("the join record cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn record(folder: &Path, token: &str) -> Token {
        let token = Token::hashed(token);
        let text = r#"{"namespace":"shop","pod":"web-1","expires":1000}"#;
        std::fs::write(folder.join(format!("{}.json", token.0)), text).unwrap();
        token
    }

    #[test]
    fn a_token_lets_its_pod_in_once_and_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let records = JoinRecords::new(folder.path().into());
        let token = record(folder.path(), "secret");
        let pod: PodRef = "shop/web-1".parse().unwrap();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let message = |pod: &str, now| {
            let checked = records.check(&token, &pod.parse().unwrap(), at(now));
            checked.map_err(|status| status.message().to_owned())
        };
        assert_eq!(message("shop/web-1", 999), Ok(()));
        assert!(message("shop/web-1", 1000).unwrap_err().contains("expired"));
        assert!(
            message("shop/web-2", 999)
                .unwrap_err()
                .contains("another pod")
        );

        let used = records.use_up(&token).unwrap();
        assert!(records.use_up(&token).is_err());
        let refused = records.check(&token, &pod, at(1)).unwrap_err();
        assert!(refused.message().contains("used already"));
        used.give_back();
        assert!(records.check(&token, &pod, at(1)).is_ok());

        let unknown = records.check(&Token::hashed("other"), &pod, at(1));
        assert!(unknown.unwrap_err().message().contains("not known"));
    }

    #[test]
    fn only_a_bearer_token_is_one() {
        let of = |value: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", value.parse().unwrap());
            Token::of(&metadata).map(|token| token.map(|token| token.0.len()))
        };
        assert_eq!(of("Bearer abc").unwrap(), Some(64));
        assert_eq!(of("bearer abc").unwrap(), Some(64));
        for bad in [
            "abc",
            "Basic abc",
            "Bearer ",
            &format!("Bearer {}", "a".repeat(2000)),
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert!(Token::of(&MetadataMap::new()).unwrap().is_none());
    }
}
