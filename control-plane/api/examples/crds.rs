//! Writes `manifests/crds` anew from the types: `cargo run -p weft-api --example crds`.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/crds");
    std::fs::create_dir_all(&folder)?;
    for (file, crd) in weft_api::crd::crds() {
        std::fs::write(folder.join(file), weft_api::crd::to_yaml(&crd)?)?;
    }
    Ok(())
}
