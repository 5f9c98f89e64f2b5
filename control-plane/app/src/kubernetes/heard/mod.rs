//! What each replica heard of the proxies that stream from it, told to the one that leads: what
//! they refuse, and during a root rotation which pods have confirmed its present step.
//!
//! - [`report`]: pure; what is told, and its form in a ConfigMap.
//! - [`replica`]: one replica's part: its own ConfigMap, and the others'.

pub(crate) mod replica;
pub(crate) mod report;
