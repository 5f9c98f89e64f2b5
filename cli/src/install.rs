//! `weft install`: the manifests of a mesh on standard output. Nothing is contacted.

use std::process::ExitCode;

use anyhow::{Context, Result};
use weft_install::{Values, objects, to_yaml};

use crate::output::print;

/// Prints namespace, CRDs, account, control plane, network policies and the webhook's configuration, in
/// the order in which they are applied. The same call with the same values prints the same text.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    chosen: Chosen,
}

/// What is chosen instead of defaults.
#[derive(clap::Args)]
pub(crate) struct Chosen {
    /// Choose a value, such as controlPlane.replicas=2; an unknown key is answered with those that
    /// there are. Repeatable; lists are separated by commas.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Chosen {
    pub(crate) fn values(&self) -> Result<Values> {
        self.over(&Values::default())
    }

    /// What is chosen over values that there are.
    pub(crate) fn over(&self, values: &Values) -> Result<Values> {
        values
            .and(self.set.iter().map(String::as_str))
            .context("--set")
    }

    /// Whether this is chosen.
    pub(crate) fn says(&self, key: &str) -> bool {
        self.set
            .iter()
            .any(|one| one.split('=').next().is_some_and(|name| name.trim() == key))
    }
}

impl Arguments {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        print(&to_yaml(&objects(&self.chosen.values()?)?)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
