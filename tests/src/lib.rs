//! weft-tests.
