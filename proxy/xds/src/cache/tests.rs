//! Round trips, damage, and whose it is.

use super::*;

fn active(kind: Kind, name: &str) -> Active {
    Active {
        kind,
        name: name.to_owned(),
        wire: Wire {
            version: format!("v-{name}"),
            bytes: Bytes::from(format!("bytes of {name}")),
        },
    }
}

fn pod(name: &str) -> PodRef {
    PodRef::new("shop", name).unwrap()
}

#[test]
fn what_is_saved_is_loaded_in_the_order_of_activation() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let cache = Cache::new(&path, pod("web")).unwrap();
    assert_eq!(cache.load().unwrap(), []);
    let address = active(Kind::Address, "10.0.0.1:80");
    let service = active(Kind::Service, "shop/web?from=shop");
    let trust = active(Kind::TrustBundle, "default");
    cache
        .save(vec![address.clone(), trust, service.clone()])
        .unwrap();
    assert_eq!(cache.load().unwrap(), [service, address]);
    cache.save(vec![]).unwrap();
    assert_eq!(cache.load().unwrap(), []);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join(FILE))), (0o700, 0o600));
}

#[test]
fn a_file_of_another_pod_or_a_damaged_one_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path(), pod("web")).unwrap();
    cache.save(vec![active(Kind::Service, "shop/web")]).unwrap();
    let other = Cache::new(directory.path(), pod("other")).unwrap();
    assert!(other.load().unwrap_err().to_string().contains("shop/web"));
    let path = directory.path().join(FILE);
    let whole = fs::read(&path).unwrap();
    for end in 1..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        if let Ok(resources) = cache.load() {
            assert!(resources.is_empty() || resources == [active(Kind::Service, "shop/web")]);
        }
    }
    fs::write(&path, b"\xff\xff\xff\xff").unwrap();
    assert!(cache.load().is_err());
}
