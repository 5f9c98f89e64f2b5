//! The Gateway API's official conformance suite against Weft in a real Kubernetes: that of
//! `KUBECONFIG`, or one that it starts on this machine. `make conformance` builds what it needs and
//! runs it.
//!
//! The suite runs once, for the first test that asks. Each test here is one of its tests, or a fact
//! without which its passing would prove little: that nothing was left out, and that the traffic
//! went through the mesh.

mod official;
mod report;
mod traffic;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use weft_tests::cluster;
use weft_tests::runner::{self, Suite};

fn main() -> ExitCode {
    let suite = Suite {
        whole: None,
        start: || cluster::start_with(&[folder().join("images")]),
        ..cluster::suite()
    };
    let tests = [official::tests(), report::tests(), traffic::tests()];
    runner::main_in(&suite, &tests.concat())
}

/// `tests/conformance`.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}
