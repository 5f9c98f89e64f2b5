//! What talks to Kubernetes but does not read the world, which is `weft-source`'s business.

pub mod webhook;
