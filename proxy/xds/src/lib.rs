//! weft-proxy-xds.
