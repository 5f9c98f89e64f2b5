//! The admission webhook that puts the sidecar into pods.
//!
//! - [`review`]: AdmissionReview in, AdmissionReview out; the decision is `weft-inject`'s.
//! - [`server`]: HTTPS, with bounds on everything that a caller can make it do.
//! - [`certificate`]: the certificate it serves with, kept current.
//! - [`serving_secret`]: the CA of that certificate, in a Secret.
//! - [`caller_bundle`]: what the API server knows it by, and whether it would be believed.
//! - [`replica`]: all of it together.
//!
//! Anyone who reaches the port may ask: it changes nothing, knows no secret, and a wrong call gets a
//! plain refusal. That only the API server reaches it is a NetworkPolicy's business.

pub(crate) mod caller_bundle;
pub mod certificate;
pub(crate) mod replica;
pub mod review;
pub mod server;
pub(crate) mod serving_secret;

#[cfg(test)]
mod tests;
