//! Join tokens: a record per token lets one pod in, with one key, until it expires.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tonic::Status;
use tonic::metadata::MetadataMap;
use weft_identity::PodRef;

use super::bearer;

/// Longest token; they have 32 random bytes in some encoding.
const MAX_TOKEN: usize = 1024;

/// The hash of a token that was shown; the token itself is not kept.
pub(crate) struct Token(String);

impl Token {
    /// The bearer token of a request.
    pub fn of(metadata: &MetadataMap) -> Result<Option<Self>, Status> {
        Ok(bearer::token(metadata, MAX_TOKEN)?.map(Self::hashed))
    }

    fn hashed(token: &str) -> Self {
        Self(hex(&Sha256::digest(token.as_bytes())))
    }
}

#[derive(Deserialize, Serialize)]
struct Record {
    namespace: String,
    pod: String,
    /// Unix seconds.
    expires: u64,
    /// Hash of the public key that the token was used with, once it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// The folder of records: `HASH.json` of a token that was not used yet, `HASH.used` of one that was.
pub(crate) struct JoinRecords {
    folder: PathBuf,
}

impl JoinRecords {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Checks a token without using it.
    pub fn check(&self, token: &Token, pod: &PodRef, now: SystemTime) -> Result<(), Status> {
        let record = self.record(token)?;
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

    /// Uses a token with a public key. Of several keys that try, one succeeds; that one may come again,
    /// because the answer may have been lost on its way.
    pub fn bind(&self, token: &Token, public_key: &[u8]) -> Result<(), Status> {
        let key = hex(&Sha256::digest(public_key));
        let record = self.record(token)?;
        if record.key.is_none() && self.claim(token, &record, &key)? {
            return Ok(());
        }
        if self.record(token)?.key.as_ref() == Some(&key) {
            return Ok(());
        }
        Err(Status::unauthenticated(
            "the join token has been used already, with another key; a new one is needed",
        ))
    }

    /// Whether the token is now this key's; false: another one was faster.
    fn claim(&self, token: &Token, record: &Record, key: &str) -> Result<bool, Status> {
        let (fresh, used) = self.paths(token);
        let fault = |error: io::Error| unreadable(&used, &error.to_string());
        let bound = Record {
            namespace: record.namespace.clone(),
            pod: record.pod.clone(),
            expires: record.expires,
            key: Some(key.to_owned()),
        };
        let text = serde_json::to_vec(&bound).map_err(|error| fault(error.into()))?;
        // Whole or not at all, and never in place of another.
        let unfinished = self.folder.join(format!(".{:016x}", rand::random::<u64>()));
        std::fs::write(&unfinished, text).map_err(fault)?;
        let linked = std::fs::hard_link(&unfinished, &used);
        std::fs::remove_file(&unfinished).map_err(fault)?;
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(fault(error)),
        }
        if let Err(error) = std::fs::remove_file(&fresh) {
            tracing::warn!("cannot remove a join record that was used: {error}");
        }
        Ok(true)
    }

    /// What is known of a token; that it was used counts more than that it was not yet.
    fn record(&self, token: &Token) -> Result<Record, Status> {
        let (fresh, used) = self.paths(token);
        // Twice: it may be used between the two looks.
        for path in [&used, &fresh, &used] {
            match std::fs::read(path) {
                Ok(text) => {
                    return serde_json::from_slice(&text)
                        .map_err(|error| unreadable(path, &error.to_string()));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(path, &error.to_string())),
            }
        }
        Err(Status::unauthenticated("the join token is not known here"))
    }

    fn paths(&self, token: &Token) -> (PathBuf, PathBuf) {
        let path = |ending: &str| self.folder.join(format!("{}.{ending}", token.0));
        (path("json"), path("used"))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
    fn a_token_lets_its_pod_in_with_one_key_and_in_time() {
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

        records.bind(&token, b"key").unwrap();
        // The same key may come again, another one may not; until the end.
        records.bind(&token, b"key").unwrap();
        let refused = records.bind(&token, b"another").unwrap_err();
        assert!(refused.message().contains("used already"), "{refused}");
        assert_eq!(message("shop/web-1", 999), Ok(()));
        assert!(message("shop/web-1", 1000).unwrap_err().contains("expired"));
        assert!(message("shop/web-2", 999).is_err());

        let unknown = records.check(&Token::hashed("other"), &pod, at(1));
        assert!(unknown.unwrap_err().message().contains("not known"));
    }

    /// Killed between writing the one record and removing the other.
    #[test]
    fn a_record_that_was_left_behind_is_of_no_use() {
        let folder = tempfile::tempdir().unwrap();
        let records = JoinRecords::new(folder.path().into());
        let token = record(folder.path(), "secret");
        records.bind(&token, b"key").unwrap();
        record(folder.path(), "secret");
        assert!(records.bind(&token, b"another").is_err());
        records.bind(&token, b"key").unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
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
