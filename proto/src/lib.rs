//! The wire between control plane and proxies: the `.proto` files of this folder and the code generated from them
//! (`generated`; `tests/generated.rs` says how). No logic lives here; what the messages mean is written down in the `.proto` files.
#![allow(missing_docs, clippy::all, rust_2018_idioms)]

/// The xDS v3 delta transport, wire-compatible with Envoy's.
pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                include!("generated/envoy.config.core.v3.rs");
            }
        }
    }
    pub mod service {
        pub mod discovery {
            pub mod v3 {
                include!("generated/envoy.service.discovery.v3.rs");
            }
        }
    }
}

/// `google.rpc.Status`.
pub mod google {
    pub mod rpc {
        include!("generated/google.rpc.rs");
    }
}

/// Weft's own messages.
pub mod weft {
    /// Issuing of workload certificates.
    pub mod ca {
        pub mod v1 {
            include!("generated/weft.ca.v1.rs");
        }
    }
    /// The resources on the stream.
    pub mod mesh {
        pub mod v1 {
            include!("generated/weft.mesh.v1.rs");
        }
    }
}

pub use envoy::service::discovery::v3 as discovery;
pub use weft::ca::v1 as ca;
pub use weft::mesh::v1 as mesh;

/// Type URLs of the resources, as they stand in requests, responses and `Any`.
pub mod type_url {
    pub const ADDRESS: &str = "type.googleapis.com/weft.mesh.v1.Address";
    pub const SERVICE: &str = "type.googleapis.com/weft.mesh.v1.Service";
    pub const ENDPOINTS: &str = "type.googleapis.com/weft.mesh.v1.Endpoints";
    pub const INBOUND: &str = "type.googleapis.com/weft.mesh.v1.Inbound";
    pub const AUTHORIZATION: &str = "type.googleapis.com/weft.mesh.v1.Authorization";
    pub const TRUST_BUNDLE: &str = "type.googleapis.com/weft.mesh.v1.TrustBundle";
    pub const MESH_CONFIG: &str = "type.googleapis.com/weft.mesh.v1.MeshConfig";
    /// In `google.rpc.Status.details` of a refusal.
    pub const REFUSAL: &str = "type.googleapis.com/weft.mesh.v1.Refusal";
}
