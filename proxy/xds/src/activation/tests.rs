//! The order in which things take effect.
