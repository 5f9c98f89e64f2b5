//! Clocks that are wrong: libfaketime shows a proxy another time, so that what is shipped runs as it is.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use weft_tests::fixture::{Fixture, TestMesh, program};
use weft_tests::runner::Test;
use weft_tests::test;

use crate::mesh::shop_yaml;
use crate::shop;

/// How far clocks are off, in seconds: the client's to one side, the server's to the other.
const OFF: i64 = 300;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![test!(
        proxies_whose_clocks_are_five_minutes_off_understand_each_other,
        wrong_clocks
    )]
}

fn faketime() -> anyhow::Result<PathBuf> {
    let libraries = std::fs::read_dir("/usr/lib")?.flatten();
    let mut found = libraries.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    found
        .find(|path| path.exists())
        .context("libfaketime is missing: run tests/scripts/setup")
}

/// The program that proxies are started by.
fn wrapper() -> PathBuf {
    std::env::temp_dir().join(format!("weft-e2e-clocks-{}", std::process::id()))
}

fn wrong_clocks() -> anyhow::Result<Fixture> {
    let script = format!(
        "#!/bin/sh
case \"$*\" in *'--pod client'*) off=+{OFF} ;; *) off=-{OFF} ;; esac
LD_PRELOAD={} FAKETIME=$off FAKETIME_DONT_FAKE_MONOTONIC=1 exec {} \"$@\"
",
        faketime()?.display(),
        program("weft-proxy")?
    );
    let wrapper = wrapper();
    std::fs::write(&wrapper, script)?;
    std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755))?;
    Ok(Fixture::new()
        .proxy(wrapper)
        .file("shop.yaml", shop_yaml()?)
        .file("strict.yaml", shop::strict("shop")))
}

async fn proxies_whose_clocks_are_five_minutes_off_understand_each_other(
    mesh: &TestMesh,
) -> anyhow::Result<()> {
    let outcome = understand_each_other(mesh).await;
    std::fs::remove_file(wrapper())?;
    outcome
}

async fn understand_each_other(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let answer = mesh.echo("shop/client", &["http://web/"]).await?;
    assert_eq!(
        answer["version"], "v1",
        "over mutual TLS: nothing else is let in"
    );
    for (name, off) in [("client", OFF), ("web", -OFF)] {
        let pod = mesh.pod("shop", name).await?.name;
        let told = async || Ok(recorded(mesh, &pod)?.is_some());
        mesh.until("the request is in the access log", told).await?;
        let clock = recorded(mesh, &pod)?.context("no record")?;
        let now = OffsetDateTime::now_utc();
        let found = (clock - now).whole_seconds();
        assert!(
            (found - off).abs() < 100,
            "the clock of {name} is off by {found} s instead of {off} s"
        );
    }
    Ok(())
}

/// When a pod's proxy says that its last request began.
fn recorded(mesh: &TestMesh, pod: &str) -> anyhow::Result<Option<OffsetDateTime>> {
    let is_of_pod = |path: &Path| path.to_string_lossy().contains(pod);
    let logs = std::fs::read_dir(mesh.logs())?.flatten();
    let mut text = String::new();
    for log in logs.map(|log| log.path()).filter(|path| is_of_pod(path)) {
        text += &std::fs::read_to_string(log)?;
    }
    let lines = text.lines().rev();
    let mut records = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let last = records.find(|line| line["direction"].is_string());
    last.map(|line| {
        let time = line["time"].as_str().context("a record has no time")?;
        Ok(OffsetDateTime::parse(time, &Rfc3339)?)
    })
    .transpose()
}
