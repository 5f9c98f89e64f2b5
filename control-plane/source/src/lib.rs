//! weft-source.
