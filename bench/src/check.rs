//! Before anything is measured: every contender carries HTTP and gRPC, and every proxy pair encrypts
//! the hop, wants a client certificate, authorises its identity and, where it can, checks the
//! server's. What fails here is not measured.

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use weft_local::info::ExecRequest;

use crate::cluster::Cluster;
use crate::contender::Contender;
use crate::manifests::{CLIENT_PORTS, INTRUDER, MESHED_INTRUDER, NAMESPACE};

/// How long a contender may take until it serves.
const SERVES_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// Where the peers' server sides listen.
const HOP_PORT: u16 = 15443;

/// What was seen.
#[derive(Debug, Clone, Serialize)]
pub struct Findings {
    /// One line each.
    pub seen: Vec<String>,
}

/// Checks one contender.
///
/// # Errors
/// What it does not do.
pub async fn check(cluster: &Cluster, contender: Contender) -> anyhow::Result<Findings> {
    let check = Check {
        cluster,
        contender,
        seen: Vec::new(),
    };
    check
        .all()
        .await
        .with_context(|| format!("{contender} does not do the work"))
}

struct Check<'a> {
    cluster: &'a Cluster,
    contender: Contender,
    seen: Vec<String>,
}

impl Check<'_> {
    async fn all(mut self) -> anyhow::Result<Findings> {
        self.serves_http().await?;
        if crate::case::Case::Grpc.takes(self.contender) {
            self.serves_grpc().await?;
        }
        self.encrypts().await?;
        match self.contender {
            Contender::Direct => {}
            Contender::Weft => self.weft_refuses().await?,
            _ => {
                self.peer_refuses_clients().await?;
                if self.contender.is_envoy() {
                    self.envoy_refuses_server().await?;
                }
            }
        }
        Ok(Findings { seen: self.seen })
    }

    fn saw(&mut self, what: impl Into<String>) {
        self.seen.push(what.into());
    }

    /// Runs curl in a pod: HTTP status, or 000 when the connection fails.
    async fn curl(&self, pod: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let fixed = [
            "curl",
            "-sk",
            "-m",
            "5",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{size_download}",
        ];
        let argv: Vec<&str> = fixed.into_iter().chain(arguments.iter().copied()).collect();
        Ok(self.cluster.mesh().exec(NAMESPACE, pod, &argv).await?.out())
    }

    async fn serves_http(&mut self) -> anyhow::Result<()> {
        let target = self.cluster.target(self.contender).await?;
        let url = format!("http://{}/", target.http);
        self.until(&self.contender.client_pod(), &[&url], "200 1024")
            .await?;
        self.saw("HTTP: 200 with 1 KiB");
        Ok(())
    }

    /// Repeats the request until its answer begins with `wanted`.
    async fn until(&self, pod: &str, arguments: &[&str], wanted: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + SERVES_LIMIT;
        loop {
            let answer = self.curl(pod, arguments).await?;
            if answer.starts_with(wanted) {
                return Ok(());
            }
            let late = Instant::now() > deadline;
            anyhow::ensure!(
                !late,
                "curl {arguments:?} in {pod}: {answer:?}, not {wanted:?}"
            );
            sleep(POLL).await;
        }
    }

    async fn serves_grpc(&mut self) -> anyhow::Result<()> {
        let target = self.cluster.target(self.contender).await?;
        let bench = self.cluster.programs().bench.display().to_string();
        let call = [bench.as_str(), "grpc-call", &target.grpc];
        let output = self
            .cluster
            .mesh()
            .exec(NAMESPACE, &self.contender.client_pod(), &call)
            .await?;
        anyhow::ensure!(output.code == 0, "a gRPC call: {}", output.err());
        self.saw("gRPC: message and trailers whole");
        Ok(())
    }

    /// A capture on the bridge has the request's words exactly when there is no proxy.
    async fn encrypts(&mut self) -> anyhow::Result<()> {
        let file = self.cluster.files().join("capture.pcap");
        let path = file.display().to_string();
        let argv = [
            "tcpdump",
            "-i",
            "weft0",
            "-U",
            "--immediate-mode",
            "-w",
            &path,
            "tcp",
        ];
        let request = ExecRequest {
            argv: argv.map(str::to_owned).to_vec(),
            ..ExecRequest::default()
        };
        let _ = std::fs::remove_file(&file);
        let mut running = self.cluster.mesh().start(&request).await?;
        // It says so when it listens.
        running.next().await?.context("tcpdump ended")?;
        let target = self.cluster.target(self.contender).await?;
        let url = format!("http://{}/", target.http);
        let canary = "x-canary: weft-bench-canary-of-this-request";
        let answer = self
            .curl(&self.contender.client_pod(), &["-H", canary, &url])
            .await?;
        anyhow::ensure!(answer == "200 1024", "{answer}");
        // Plaintext to a pod without a proxy: once it is in the capture, so is what came before.
        let plain = format!("http://{}:8080/", self.cluster.address(INTRUDER).await?);
        let marker = "x-marker: weft-bench-end-of-capture";
        self.outside_curl(&plain, marker).await?;
        let captured = self.captured(&file, b"weft-bench-end-of-capture").await?;
        let plaintext = contains(&captured, b"weft-bench-canary-of-this-request");
        let expected = self.contender == Contender::Direct;
        anyhow::ensure!(
            plaintext == expected,
            "the request is {} on the wire",
            if plaintext { "plain" } else { "not" }
        );
        let server = self
            .cluster
            .address(&self.contender.server_pod())
            .await?
            .to_string();
        self.saw(format!(
            "hop to {server}: {}",
            if plaintext { "plaintext" } else { "encrypted" }
        ));
        Ok(())
    }

    async fn outside_curl(&self, url: &str, header: &str) -> anyhow::Result<()> {
        let argv = [
            "curl",
            "-s",
            "-m",
            "5",
            "-o",
            "/dev/null",
            "-H",
            header,
            url,
        ];
        let output = self.cluster.mesh().exec_outside(&argv).await?;
        anyhow::ensure!(output.code == 0, "curl {url}: {}", output.err());
        Ok(())
    }

    async fn captured(&self, file: &std::path::Path, end: &[u8]) -> anyhow::Result<Vec<u8>> {
        let deadline = Instant::now() + SERVES_LIMIT;
        loop {
            let captured = std::fs::read(file)?;
            if contains(&captured, end) {
                return Ok(captured);
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "tcpdump sees nothing on the bridge"
            );
            sleep(POLL).await;
        }
    }

    /// The server side of a peer: right certificate, wrong one, none.
    async fn peer_refuses_clients(&mut self) -> anyhow::Result<()> {
        let server = self.cluster.address(&self.contender.server_pod()).await?;
        let url = format!("https://{server}:{HOP_PORT}/");
        for (account, wanted) in [
            (self.contender.client_pod(), "200"),
            (INTRUDER.to_owned(), "403"),
        ] {
            let credentials = self.cluster.credentials(&account)?;
            let chain = credentials.chain.display().to_string();
            let key = credentials.key.display().to_string();
            let answer = self
                .curl(INTRUDER, &["--cert", &chain, "--key", &key, &url])
                .await?;
            anyhow::ensure!(
                answer.starts_with(wanted),
                "as {}: {answer}, not {wanted}",
                credentials.id
            );
            self.saw(format!("a client that is {}: {wanted}", credentials.id));
        }
        for (what, url) in [
            ("without a certificate", url),
            ("in plaintext", format!("http://{server}:{HOP_PORT}/")),
        ] {
            let answer = self.curl(INTRUDER, &[&url]).await?;
            anyhow::ensure!(answer.starts_with("000"), "a client {what}: {answer}");
            self.saw(format!("a client {what}: connection refused"));
        }
        Ok(())
    }

    /// The client side of an Envoy, pointed at a server that shows the right certificate, then one
    /// that shows another's.
    async fn envoy_refuses_server(&mut self) -> anyhow::Result<()> {
        let (client, server) = (self.contender.client_pod(), self.contender.server_pod());
        let here = self.cluster.address(INTRUDER).await?;
        for (account, wanted) in [(server.as_str(), "200"), (INTRUDER, "503")] {
            let impostor = self.cluster.peer(self.contender, account, &client)?;
            let customer = self.cluster.peer(self.contender, &client, &server)?;
            let mut running = Vec::new();
            for (side, text) in [
                ("impostor", impostor.server()?),
                ("customer", customer.client(here, CLIENT_PORTS)?),
            ] {
                let config = customer.file(self.cluster.files(), side);
                std::fs::write(&config, text)?;
                let request = ExecRequest {
                    pod: Some((NAMESPACE.to_owned(), INTRUDER.to_owned())),
                    argv: customer.command(self.cluster.programs(), &config),
                    ..ExecRequest::default()
                };
                running.push(self.cluster.mesh().start(&request).await?);
            }
            let direct = format!("https://{here}:{HOP_PORT}/");
            let credentials = self.cluster.credentials(&client)?;
            let chain = credentials.chain.display().to_string();
            let key = credentials.key.display().to_string();
            self.until(
                INTRUDER,
                &["--cert", &chain, "--key", &key, &direct],
                "200 1024",
            )
            .await?;
            let url = format!("http://127.0.0.1:{}/", CLIENT_PORTS.http);
            self.until(INTRUDER, &[&url], wanted)
                .await
                .with_context(|| format!("a server that is {account}"))?;
            self.saw(format!("a server that is {account}: {wanted}"));
            drop(running);
            self.until_free(CLIENT_PORTS.http).await?;
            self.until_free(HOP_PORT).await?;
        }
        Ok(())
    }

    /// Waits until nobody listens there in the intruder's pod.
    async fn until_free(&self, port: u16) -> anyhow::Result<()> {
        let url = format!("http://127.0.0.1:{port}/");
        let deadline = Instant::now() + SERVES_LIMIT;
        while self
            .cluster
            .mesh()
            .exec(NAMESPACE, INTRUDER, &["curl", "-s", "-m", "2", &url])
            .await?
            .code
            != 7
        {
            anyhow::ensure!(Instant::now() < deadline, "port {port} stays taken");
            sleep(POLL).await;
        }
        Ok(())
    }

    async fn weft_refuses(&mut self) -> anyhow::Result<()> {
        let service = format!(
            "http://{}/",
            self.cluster.target(self.contender).await?.http
        );
        self.until(MESHED_INTRUDER, &[&service], "403").await?;
        self.saw("a client of another identity: 403");
        let server = self.cluster.address(&self.contender.server_pod()).await?;
        let answer = self
            .curl(INTRUDER, &[&format!("http://{server}:8080/")])
            .await?;
        anyhow::ensure!(answer.starts_with("000"), "a client in plaintext: {answer}");
        self.saw("a client in plaintext: connection refused");
        Ok(())
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
