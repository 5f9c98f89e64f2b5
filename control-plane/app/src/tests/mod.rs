//! A whole control plane in this process, asked over real TLS and gRPC.

mod harness;
mod issuing;
mod rotating;
mod streaming;
