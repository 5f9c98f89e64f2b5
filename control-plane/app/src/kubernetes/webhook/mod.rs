//! The admission webhook that puts the sidecar into pods.
//!
//! - [`review`]: AdmissionReview in, AdmissionReview out; the decision is `weft-inject`'s.
//! - [`server`]: HTTPS, with bounds on everything that a caller can make it do.
//! - [`certificate`]: the certificate it serves with, kept current.
//!
//! Anyone who reaches the port may ask: it changes nothing, knows no secret, and a wrong call gets a
//! plain refusal. That only the API server reaches it is a NetworkPolicy's business.

pub mod certificate;
pub mod review;
pub mod server;

#[cfg(test)]
mod tests;
