//! weft-control-plane.
