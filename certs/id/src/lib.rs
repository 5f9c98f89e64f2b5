//! weft-identity.
