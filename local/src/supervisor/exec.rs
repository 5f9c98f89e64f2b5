//! Runs a command in a pod, or in the outer namespace, and turns its output into frames.

use std::process::{ExitStatus, Stdio};

use anyhow::Context;
use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::cluster::Cluster;
use crate::info::{Channel, ExecRequest};
use crate::pod::sandbox::{self, Run};
use crate::workload::Key;

/// Frames that wait for a slow reader.
const QUEUE: usize = 16;

/// Starts the command. Dropping the receiver kills it.
pub fn start(cluster: &Cluster, request: ExecRequest) -> anyhow::Result<mpsc::Receiver<Bytes>> {
    anyhow::ensure!(!request.argv.is_empty(), "no command");
    let mut command = match &request.pod {
        Some((namespace, name)) => {
            let key = Key::new(namespace, name);
            let pid = cluster
                .read(|state| state.pod(&key)?.sandbox)
                .with_context(|| format!("there is no running pod {key}"))?;
            let run = Run {
                argv: request.argv,
                env: request.env,
                cwd: None,
                uid: request.uid,
                gid: request.uid,
            };
            sandbox::command(pid, &run)
        }
        None => {
            let mut command = Command::new(&request.argv[0]);
            command
                .args(&request.argv[1..])
                .envs(request.env)
                .process_group(0);
            command
        }
    };
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(carry(child, sender));
    Ok(receiver)
}

/// Owned by the receiver: ends when the command has ended or nobody listens.
async fn carry(mut child: Child, frames: mpsc::Sender<Bytes>) {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let output = async {
        tokio::join!(
            pump(Channel::Out, out, &frames),
            pump(Channel::Err, err, &frames)
        );
        child.wait().await
    };
    let status = tokio::select! {
        status = output => status,
        () = frames.closed() => return,
    };
    let code = status.map_or(255, code);
    let _ = frames
        .send(frame(Channel::Exit, code.to_string().as_bytes()))
        .await;
}

async fn pump(
    channel: Channel,
    source: Option<impl AsyncRead + Unpin>,
    frames: &mpsc::Sender<Bytes>,
) {
    let Some(mut source) = source else { return };
    let mut buffer = vec![0; 32 << 10];
    while let Ok(length) = source.read(&mut buffer).await {
        if length == 0
            || frames
                .send(frame(channel, &buffer[..length]))
                .await
                .is_err()
        {
            return;
        }
    }
}

fn frame(channel: Channel, content: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + content.len());
    frame.put_u8(channel as u8);
    frame.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX));
    frame.put_slice(content);
    frame.freeze()
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
