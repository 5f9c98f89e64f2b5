//! `weft validate`: files and folders through the control plane's own reading and compile step, without a mesh.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};
use weft_compile::{Compiler, Settings};
use weft_model::{Change, Severity};
use weft_source::Diagnostic;

use crate::Output;
use crate::output::{Format, counted, print, print_json};

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
            anyhow::ensure!(
                path.exists(),
                "{} does not exist; give files or folders of YAML",
                path.display()
            );
        }
        let (objects, diagnostics) = self.check();
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
                print_json(&json!({
                    "valid": !fails,
                    "objects": objects,
                    "errors": errors,
                    "warnings": warnings,
                    "findings": diagnostics.iter().map(finding).collect::<Vec<_>>(),
                }))?;
            }
            Format::Table => {
                let mut text: String = diagnostics.iter().map(|one| one.line() + "\n").collect();
                if objects == 0 {
                    text += "no objects of the mesh here: files end in .yaml, .yml or .json\n";
                }
                text += &format!(
                    "{}: {}, {}\n",
                    counted(objects, "object of the mesh", "objects of the mesh"),
                    counted(errors, "error", "errors"),
                    counted(warnings, "warning", "warnings")
                );
                print(&text)?;
            }
        }
        Ok(if fails {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    /// How many objects there are, and what reading and compiling find, by place.
    fn check(&self) -> (usize, Vec<Diagnostic>) {
        let loaded = weft_source::load(&self.paths);
        let mut compiler = Compiler::new(Settings::default());
        compiler.apply(loaded.world.objects().cloned().map(Change::Upsert));
        let findings = compiler.diagnostics();
        let compiled = findings
            .iter()
            .map(|finding| loaded.locator.locate(finding));
        let read = loaded.diagnostics.into_iter();
        let read = read.filter(|finding| !compiler.is_others(finding.subject.as_ref()));
        let mut all: Vec<Diagnostic> = read.chain(compiled).collect();
        for diagnostic in &mut all {
            let missing =
                diagnostic.reason.is_missing_reference() && diagnostic.severity == Severity::Error;
            if self.allow_missing_refs && missing {
                diagnostic.severity = Severity::Warning;
            }
        }
        all.sort();
        (loaded.world.objects().count(), all)
    }
}

/// A finding as programs read it, with the names that the control plane's `/v1/diagnostics` has.
fn finding(diagnostic: &Diagnostic) -> Value {
    let place = diagnostic.place.as_ref();
    let subject = diagnostic.subject.as_ref();
    json!({
        "severity": diagnostic.severity.to_string(),
        "file": place.map(|place| &*place.file),
        "line": place.map(|place| place.line),
        "kind": subject.map(|subject| &*subject.kind),
        "namespace": subject.map(|subject| &*subject.namespace),
        "name": subject.map(|subject| &*subject.name),
        "field": diagnostic.field.to_string(),
        "reason": diagnostic.reason.to_string(),
        "message": diagnostic.message,
        "text": diagnostic.to_string(),
    })
}
