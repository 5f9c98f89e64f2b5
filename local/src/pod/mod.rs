//! One pod: its sandbox (namespaces, root file system, addresses), the processes in it, their
//! probes, and the order in which they come and go.

pub mod backoff;
pub mod container;
pub mod lifecycle;
pub mod pause;
pub mod probe;
pub mod proxy;
pub mod sandbox;
