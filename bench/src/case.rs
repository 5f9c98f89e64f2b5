//! What is measured, and the commands that make the load.

use std::fmt;
use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;

use crate::contender::Contender;

/// One kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// HTTP/1.1, one connection.
    H1C1,
    /// HTTP/1.1, 32 connections.
    H1C32,
    /// HTTP/1.1, 256 connections.
    H1C256,
    /// gRPC, 8 connections with 32 streams each.
    Grpc,
    /// One answer of 1 GiB.
    Body,
}

/// Where the load goes.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    /// `host:port` of plain HTTP.
    pub http: String,
    /// `host:port` of gRPC (HTTP/2 without TLS).
    pub grpc: String,
}

/// Seconds of load before anything counts: connections open, caches fill.
pub const WARM_UP: f64 = 0.6;
/// Seconds of load on both sides of what is measured, so that the window lies within the load.
pub const MARGIN: f64 = 0.3;

impl Case {
    /// All, in the order of the table.
    pub const ALL: [Self; 5] = [
        Self::H1C1,
        Self::H1C32,
        Self::H1C256,
        Self::Grpc,
        Self::Body,
    ];

    /// As flags and results have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::H1C1 => "h1-c1",
            Self::H1C32 => "h1-c32",
            Self::H1C256 => "h1-c256",
            Self::Grpc => "grpc",
            Self::Body => "body",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::H1C1 => "HTTP/1.1, 1 connection",
            Self::H1C32 => "HTTP/1.1, 32 connections",
            Self::H1C256 => "HTTP/1.1, 256 connections",
            Self::Grpc => "gRPC, 8 connections x 32 streams",
            Self::Body => "1 GiB body",
        }
    }

    /// Whether `contender` can do it: gRPC needs HTTP/2 all the way.
    pub fn takes(self, contender: Contender) -> bool {
        !(self == Self::Grpc && contender == Contender::EnvoyH1)
    }

    /// The command that makes this load for `seconds` of measuring, with its log (h2load) and the
    /// request's message (gRPC) in `files`.
    pub fn command(self, target: &Target, seconds: f64, files: &Path) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let mut argv: Vec<String> = match self {
            Self::Body => {
                let url = format!("http://{}/gib", target.http);
                let format = "%{http_code} %{size_download} %{time_total}";
                return words(&[
                    "curl",
                    "-sS",
                    "--http1.1",
                    "-o",
                    "/dev/null",
                    "-w",
                    format,
                    &url,
                ]);
            }
            Self::H1C1 => words(&["h2load", "--h1", "-c", "1"]),
            Self::H1C32 => words(&["h2load", "--h1", "-c", "32"]),
            Self::H1C256 => words(&["h2load", "--h1", "-c", "256"]),
            Self::Grpc => {
                let message = files.join("grpc-request");
                let mut argv: Vec<String> = words(&["h2load", "-c", "8", "-m", "32", "-d"]);
                argv.push(message.display().to_string());
                argv.extend(words(&[
                    "-H",
                    "content-type: application/grpc",
                    "-H",
                    "te: trailers",
                ]));
                argv
            }
        };
        let duration = format!("{}ms", ((seconds + 2.0 * MARGIN) * 1e3).round());
        let warm_up = format!("{}ms", (WARM_UP * 1e3).round());
        argv.extend(words(&[
            "-t",
            "1",
            "-D",
            &duration,
            "--warm-up-time",
            &warm_up,
        ]));
        argv.push(format!("--log-file={}", files.join("h2load.log").display()));
        argv.push(match self {
            Self::Grpc => format!("http://{}/bench.Echo/Call", target.grpc),
            _ => format!("http://{}/", target.http),
        });
        argv
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
