//! weft-proxy-http.
