//! A program that is run once: its input in, what it answers out.

use std::process::Stdio;

use anyhow::Context;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use weft_local::Output;

/// Runs it with this input, whatever it answers; it ends with whoever waits for it.
pub(super) async fn output(mut command: Command, input: &str) -> anyhow::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("running {:?}", command.as_std().get_program()))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let (output, ()) = tokio::join!(child.wait_with_output(), async move {
        // Not every command reads its input to the end.
        let _ = stdin.write_all(input.as_bytes()).await;
    });
    let output = output?;
    Ok(Output {
        code: output.status.code().unwrap_or(128),
        stdout: output.stdout,
        stderr: output.stderr,
    })
}
