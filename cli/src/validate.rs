//! `weft validate`: files and folders through the control plane's own reading and compile step, without a mesh.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;
use weft_compile::Settings;
use weft_model::Severity;
use weft_source::Diagnostic;

use crate::Output;
use crate::output::{Format, print_json};

/// Checks YAML and names every fault as `file:line: Kind namespace/name: field: reason`. Exits with 1 if anything is
/// wrong. Nothing is contacted.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Files or folders; folders are read recursively.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Let references to objects outside the given paths pass with a warning.
    #[arg(long)]
    allow_missing_refs: bool,
    /// Count warnings as errors.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    output: Output,
}

impl Arguments {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        for path in &self.paths {
            anyhow::ensure!(path.exists(), "{} does not exist", path.display());
        }
        let diagnostics = self.diagnostics();
        let count = |severity| {
            diagnostics
                .iter()
                .filter(|one| one.severity == severity)
                .count()
        };
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let fails = errors > 0 || (self.strict && warnings > 0);
        match self.output.output {
            Format::Json => {
                print_json(
                    &json!({ "valid": !fails, "errors": errors, "warnings": warnings, "findings": diagnostics }),
                )?;
            }
            Format::Table => {
                for diagnostic in &diagnostics {
                    println!("{}: {diagnostic}", diagnostic.severity);
                }
                println!("{errors} errors, {warnings} warnings");
            }
        }
        Ok(if fails {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    /// What reading and compiling find, by place.
    fn diagnostics(&self) -> Vec<Diagnostic> {
        let loaded = weft_source::load(&self.paths);
        let (_, findings) = weft_compile::compile(Settings::default(), &loaded.world);
        let compiled = findings
            .iter()
            .map(|finding| loaded.locator.locate(finding));
        let mut all: Vec<Diagnostic> = loaded.diagnostics.into_iter().chain(compiled).collect();
        for diagnostic in &mut all {
            let missing =
                diagnostic.reason.is_missing_reference() && diagnostic.severity == Severity::Error;
            if self.allow_missing_refs && missing {
                diagnostic.severity = Severity::Warning;
            }
        }
        all.sort();
        all
    }
}
