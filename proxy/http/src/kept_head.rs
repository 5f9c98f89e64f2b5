//! The head of a request as it is kept for another attempt: handles of names and values in a list whose memory is
//! used over and over. The header map itself is moved into the first attempt; another is made only for a further one.

use std::cell::RefCell;

use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};

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
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let mut headers = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        headers.extend(
            request
                .headers()
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers,
        }
    }

    /// The request once more, with this body.
    pub(crate) fn request<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        let headers = request.headers_mut();
        headers.reserve(self.headers.len());
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
        }
        request
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
