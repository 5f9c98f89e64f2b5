//! The client against a control plane in the same process.
