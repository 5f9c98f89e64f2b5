//! Who a workload is: SPIFFE IDs, trust domains and pod names.
//!
//! Owns parsing, validating and comparing these names; text in, validated value or a [`NameError`]
//! out. It knows nothing about keys or certificates (that is `weft-certs`), and nothing about which
//! identity a pod has.
//!
//! IDs are parsed, never put together by hand: a value of these types is valid by construction.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod pod;
mod spiffe;
mod trust_domain;

#[cfg(test)]
mod tests;

pub use error::{NameError, NamePart};
pub use pod::PodRef;
pub use spiffe::{CONTROL_PLANE_NAMESPACE, CONTROL_PLANE_SERVICE_ACCOUNT, SpiffeId};
pub use trust_domain::TrustDomain;
