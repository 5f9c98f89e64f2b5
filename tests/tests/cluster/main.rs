//! The suite in a real Kubernetes: that of `KUBECONFIG`, or one that it starts on this machine and
//! shares among its tests, which have namespaces of their own. `make test-cluster` builds what it
//! needs and runs it; see `weft_tests::runner` for its flags.

mod access;
mod api_server;
mod authority;
mod bad_input;
mod check;
mod cli;
mod faults;
mod first_contact;
mod heard;
mod identity;
mod injection;
mod lifecycle;
mod mesh;
mod packages;
mod platform;
mod replicas;
mod rollout;
mod routes;
mod slipped;
mod status;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [
        platform::tests(),
        api_server::tests(),
        authority::tests(),
        check::tests(),
        cli::tests(),
        identity::tests(),
        first_contact::tests(),
        heard::tests(),
        injection::tests(),
        lifecycle::tests(),
        mesh::tests(),
        packages::tests(),
        rollout::tests(),
        faults::tests(),
        bad_input::tests(),
        routes::tests(),
        slipped::tests(),
        access::tests(),
        status::tests(),
    ];
    weft_tests::runner::main_in(&weft_tests::cluster::suite(), &tests.concat())
}
