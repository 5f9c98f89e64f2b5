//! weft-proxy-net.
