//! weft-local.
