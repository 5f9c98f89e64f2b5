//! The bearer token of a request.

use tonic::Status;
use tonic::metadata::MetadataMap;

/// The token, at most `longest` bytes of it. None: there is none.
pub(super) fn token(metadata: &MetadataMap, longest: usize) -> Result<Option<&str>, Status> {
    let Some(value) = metadata.get("authorization") else {
        return Ok(None);
    };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match token {
        Some(token) if !token.is_empty() && token.len() <= longest => Ok(Some(token)),
        _ => Err(Status::unauthenticated(
            "the authorization must be of the form: Bearer TOKEN",
        )),
    }
}
