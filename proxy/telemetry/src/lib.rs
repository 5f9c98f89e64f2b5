//! weft-proxy-telemetry.
