//! weft-proxy.
