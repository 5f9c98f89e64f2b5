//! weft-bench.
