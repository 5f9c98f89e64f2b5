//! The end-to-end suite: real proxies and a real control plane on this machine. `cargo test --test
//! e2e` runs it after `cargo build --workspace --bins`; see `weft_tests::runner` for its flags.

mod clocks;
mod identity;
mod interception;
mod machine;
mod mesh;
mod neighbours;
mod protocols;
mod resilience;
mod shop;
mod skew;
mod streams;
mod under_load;
mod vanished;
mod wrong_input;

use std::process::ExitCode;

fn main() -> ExitCode {
    let suites = [
        machine::tests(),
        mesh::tests(),
        interception::tests(),
        wrong_input::tests(),
        protocols::tests(),
        resilience::tests(),
        identity::tests(),
        clocks::tests(),
        neighbours::tests(),
        vanished::tests(),
        under_load::tests(),
        skew::tests(),
    ];
    weft_tests::runner::main(&suites.concat())
}
