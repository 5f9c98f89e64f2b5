//! weft-proxy-config.
