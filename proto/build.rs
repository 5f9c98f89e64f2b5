//! Compiles the .proto files with protox, so that no protoc is needed.

const FILES: &[&str] = &[
    "envoy/service/discovery/v3/discovery.proto",
    "weft/ca/v1/certificate.proto",
    "weft/mesh/v1/address.proto",
    "weft/mesh/v1/authorization.proto",
    "weft/mesh/v1/endpoints.proto",
    "weft/mesh/v1/inbound.proto",
    "weft/mesh/v1/mesh.proto",
    "weft/mesh/v1/service.proto",
    "weft/mesh/v1/trust.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=envoy");
    println!("cargo:rerun-if-changed=google");
    println!("cargo:rerun-if-changed=weft");
    let descriptors = protox::compile(FILES, ["."])?;
    tonic_prost_build::configure()
        .bytes(".envoy.service.discovery.v3")
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
