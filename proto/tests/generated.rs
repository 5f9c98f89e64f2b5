//! What is generated from the .proto files lies in `src/generated`, so that a build of Weft needs no protobuf compiler
//! (nor the time to build one). This test holds it to the .proto files; `UPDATE_PROTO=1 cargo test -p weft-proto` writes it anew.

use std::collections::BTreeMap;
use std::path::Path;

/// The roots; what they import comes along. A new .proto file that none of them imports has to be named here.
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

#[test]
fn the_generated_code_is_that_of_the_proto_files() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = folder.join("src/generated");
    let fresh = tempfile::tempdir()?;
    tonic_prost_build::configure()
        .bytes(".envoy.service.discovery.v3")
        .btree_map(".")
        .out_dir(fresh.path())
        .compile_fds(protox::compile(FILES, [folder])?)?;
    if std::env::var_os("UPDATE_PROTO").is_some() {
        std::fs::remove_dir_all(&committed)?;
        std::fs::create_dir(&committed)?;
        for (name, text) in texts(fresh.path())? {
            std::fs::write(committed.join(name), text)?;
        }
    }
    let (expected, found) = (texts(fresh.path())?, texts(&committed)?);
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
    for (name, text) in expected {
        assert!(
            found[&name] == text,
            "src/generated/{name} is not what the .proto files say: UPDATE_PROTO=1 cargo test -p weft-proto"
        );
    }
    Ok(())
}

/// The files of a folder by name.
fn texts(folder: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        Ok((name, std::fs::read_to_string(entry.path())?))
    };
    std::fs::read_dir(folder)?.map(file).collect()
}
