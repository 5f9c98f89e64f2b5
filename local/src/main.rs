//! `weft up` by itself, under the name `weft-local`: what the end-to-end tests start, so that they
//! need not link the whole command line tool.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    weft_local::reexec::main_if_requested();
    match weft_local::up(weft_local::UpArgs::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
