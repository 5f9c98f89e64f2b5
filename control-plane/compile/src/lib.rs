//! weft-compile.
