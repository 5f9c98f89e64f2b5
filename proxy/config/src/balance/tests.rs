//! Who gets the request.
