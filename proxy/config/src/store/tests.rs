//! The store under its limits, while connected and not.
