//! A proxy's files.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_restarted_proxy_finds_what_it_had() {
    let mesh = Mesh::new();
    let directory = TempDir::new().unwrap();
    let store = IdentityStore::new(directory.path());
    assert!(store.load().unwrap().is_none());
    assert!(store.load_bundle(&domain()).unwrap().is_none());

    let identity = mesh.issue(&id("shop", "web"));
    store.save(&identity).unwrap();
    store.save_bundle(&mesh.authority.bundle()).unwrap();
    let loaded = IdentityStore::new(directory.path())
        .load()
        .unwrap()
        .unwrap();
    assert_eq!(loaded.chain(), identity.chain());
    assert_eq!(loaded.key().to_der(), identity.key().to_der());
    let bundle = store.load_bundle(&domain()).unwrap();
    assert_eq!(bundle, Some(mesh.authority.bundle()));

    let renewed = mesh.issue(&id("shop", "web"));
    store.save(&renewed).unwrap();
    assert_eq!(store.load().unwrap().unwrap().chain(), renewed.chain());
}

#[test]
fn its_files_are_its_own() {
    let mesh = Mesh::new();
    let directory = TempDir::new().unwrap();
    let store = IdentityStore::new(directory.path());
    store.save(&mesh.issue(&id("shop", "web"))).unwrap();
    store.save_bundle(&mesh.authority.bundle()).unwrap();
    let names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(names.len(), 2, "nothing temporary stays: {names:?}");
    assert!(names.iter().all(|path| mode(path) == 0o600));

    let path = directory.path().join("identity.pem");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(store.load(), Err(StoreError::Io { .. })));
}

#[test]
fn a_chain_for_another_key_is_not_loaded() {
    let mesh = Mesh::new();
    let directory = TempDir::new().unwrap();
    let store = IdentityStore::new(directory.path());
    let path = directory.path().join("identity.pem");
    let (mine, other) = (
        mesh.issue(&id("shop", "web")),
        mesh.issue(&id("shop", "web")),
    );
    let write = |text: String| write_atomic(&path, text.as_bytes(), PRIVATE).unwrap();

    write(mine.key().to_pem() + &other.chain().to_pem());
    assert!(matches!(store.load(), Err(StoreError::Identity { .. })));
    write(mine.chain().to_pem());
    assert!(matches!(store.load(), Err(StoreError::Key { .. })));
    write(mine.key().to_pem());
    assert!(matches!(store.load(), Err(StoreError::Chain { .. })));
    write("half a fi".into());
    assert!(matches!(store.load(), Err(StoreError::Key { .. })));
}

#[test]
fn keys_are_saved_for_their_owner_and_read_back() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("key.pem");
    let key = PrivateKey::generate().unwrap();
    key.save(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    let again = PrivateKey::from_pem(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(again.to_der(), key.to_der());
    assert_eq!(
        PrivateKey::from_der(key.to_der()).unwrap().to_der(),
        key.to_der()
    );
    assert!(!format!("{key:?}").contains(&key.to_pem()[30..60]));

    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    assert!(matches!(
        PrivateKey::from_pem(&p384.serialize_pem()),
        Err(KeyError::NotP256(_))
    ));
    assert!(matches!(
        PrivateKey::from_pem("none"),
        Err(KeyError::Pem(_))
    ));
}

#[test]
fn an_atomic_write_replaces_whole_files_with_the_wanted_mode() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("trust-bundle.pem");
    write_atomic(&path, b"one", PUBLIC).unwrap();
    assert_eq!(mode(&path), 0o644);
    write_atomic(&path, b"two", PRIVATE).unwrap();
    assert_eq!(
        (fs::read(&path).unwrap(), mode(&path)),
        (b"two".to_vec(), 0o600)
    );
    let nowhere = directory.path().join("missing/file");
    assert!(write_atomic(&nowhere, b"three", PRIVATE).is_err());
}
