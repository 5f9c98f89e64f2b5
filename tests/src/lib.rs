//! What the end-to-end suites stand on: a mesh per test from YAML in a temporary folder, a real
//! Kubernetes per suite, a load client that forgives nothing, packet captures, and a runner that
//! keeps tests apart and checks that nothing is left behind.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod artifacts;
pub mod capture;
pub mod cluster;
pub mod fixture;
pub mod load;
pub mod runner;
