//! Which rule and which backend.
