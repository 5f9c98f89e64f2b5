//! The head of a request as it is kept for another attempt: handles of names and values in a list whose memory is
//! used over and over. The header map itself is moved into the first attempt; another is made only for a further one.

use std::cell::RefCell;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

type Headers = Vec<(HeaderName, HeaderValue)>;

thread_local! {
    static SPARE: RefCell<Vec<Headers>> = const { RefCell::new(Vec::new()) };
}

/// Lists kept for use again.
const SPARE_LISTS: usize = 256;

/// A request's head without its map.
#[derive(Debug)]
pub(crate) struct KeptHead {
    method: Method,
    uri: Uri,
    version: Version,
    headers: Headers,
}

impl KeptHead {
    pub(crate) fn of(parts: &Parts) -> Self {
        let mut headers = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        headers.extend(parts.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            headers,
        }
    }

    /// The head once more.
    pub(crate) fn parts(&self) -> Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method.clone();
        parts.uri = self.uri.clone();
        parts.version = self.version;
        parts.headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            parts.headers.append(name.clone(), value.clone());
        }
        parts
    }
}

impl Drop for KeptHead {
    fn drop(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_LISTS {
                spare.push(headers);
            }
        });
    }
}
