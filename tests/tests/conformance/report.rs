//! The suite's report: what it says was tested, and that nothing was left out.

use anyhow::Context;
use serde_json::{Value, json};
use weft_tests::runner::{Concurrency, Outcome, Test, anywhere};

use crate::official::Run;

/// The profiles that there are for a mesh, with their tests: core, extended.
const PROFILES: [(&str, u64, u64); 2] = [("MESH-HTTP", 7, 7), ("MESH-GRPC", 2, 0)];

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![Test {
        name: "the_report_says_that_all_of_it_is_supported",
        concurrency: Concurrency::Shared,
        possible: anywhere,
        run: |_| Box::pin(the_report_says_that_all_of_it_is_supported()),
    }]
}

async fn the_report_says_that_all_of_it_is_supported() -> Outcome {
    let run = Run::done().await?;
    let text = std::fs::read_to_string(&run.report).context("there is no report")?;
    let report: Value = serde_saphyr::from_str(&text)?;
    let made_for = (&report["gatewayAPIVersion"], &report["gatewayAPIChannel"]);
    anyhow::ensure!(
        made_for == (&json!("v1.6.1"), &json!("experimental")),
        "{text}"
    );
    let profiles = report["profiles"].as_array().context("no profiles")?;
    anyhow::ensure!(profiles.len() == PROFILES.len(), "{text}");
    for (name, core, extended) in PROFILES {
        let mut profiles = profiles.iter();
        let profile = profiles.find(|profile| profile["name"] == name);
        let profile = profile.with_context(|| format!("no {name} in {text}"))?;
        let passed = |part: &str| {
            let statistics = &profile[part]["statistics"];
            let clean = statistics["Failed"] == 0 && statistics["Skipped"] == 0;
            clean.then(|| statistics["Passed"].as_u64()).flatten()
        };
        let left_out = &profile["extended"]["unsupportedFeatures"];
        anyhow::ensure!(passed("core") == Some(core), "{name}, core: {text}");
        anyhow::ensure!(
            extended == 0 || passed("extended") == Some(extended),
            "{name}, extended: {text}"
        );
        anyhow::ensure!(
            left_out.as_array().is_none_or(Vec::is_empty),
            "{name} leaves out {left_out}"
        );
    }
    Ok(())
}
