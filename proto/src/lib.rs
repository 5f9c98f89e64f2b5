//! weft-proto.
