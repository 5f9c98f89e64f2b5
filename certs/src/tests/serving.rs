//! The webhook's CA: who is believed by whom, over a replacement from its first to its last step.

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject;

use super::*;

const NAME: &str = "weft-control-plane.weft-system.svc";

fn serving(rotation: &ServingRotation, now: SystemTime) -> ServingCertificate {
    rotation.issue(&[NAME.to_owned()], now).unwrap()
}

/// As the API server does it: webpki, the bundle, the DNS name of the Service.
fn believed(bundle: &str, certificate: &ServingCertificate, name: &str, now: SystemTime) -> bool {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let name = ServerName::try_from(name).unwrap();
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap());
    let leaf = &certificate.key.cert[0];
    verifier
        .verify_server_cert(leaf, &[], &name, &[], now)
        .is_ok()
}

#[test]
fn the_service_is_believed_by_its_name_for_as_long_as_its_certificate_lives() {
    let rotation = ServingRotation::begin(start()).unwrap();
    let certificate = serving(&rotation, start());
    let is_believed = |name, at| believed(&rotation.bundle_pem(), &certificate, name, at);
    assert!(is_believed(NAME, start()));
    assert!(is_believed(NAME, start() + DAY));
    assert!(!is_believed(NAME, start() + DAY + HOUR));
    assert!(!is_believed("weft-control-plane.other.svc", start()));
    let stranger = ServingRotation::begin(start()).unwrap();
    assert!(!believed(
        &stranger.bundle_pem(),
        &certificate,
        NAME,
        start()
    ));
}

#[test]
fn a_new_ca_is_known_before_it_signs_and_the_old_one_until_nothing_of_it_is_served() {
    let mut now = start();
    let mut rotation = ServingRotation::begin(now).unwrap();
    let first = rotation.bundle_pem();
    let mut changes = Vec::new();
    while changes.len() < 3 {
        now += HOUR;
        let Some(next) = rotation.advance(now).unwrap() else {
            continue;
        };
        // A replica and a caller may be one step apart, whichever is ahead.
        for (replica, caller) in [(&rotation, &next), (&next, &rotation)] {
            let certificate = serving(replica, now);
            assert!(believed(&caller.bundle_pem(), &certificate, NAME, now));
        }
        changes.push((
            now.duration_since(start()).unwrap().as_secs() / DAY.as_secs(),
            next.bundle_pem().matches("BEGIN").count(),
        ));
        rotation = ServingRotation::from_secret(&next.to_secret()).unwrap();
        assert_eq!(rotation.to_secret(), next.to_secret());
    }
    assert_eq!(changes, [(243, 2), (244, 2), (245, 1)]);
    assert_ne!(rotation.bundle_pem(), first);
    assert!(rotation.advance(now).unwrap().is_none());
}

#[test]
fn an_expired_ca_gives_way_at_once() {
    let rotation = ServingRotation::begin(start()).unwrap();
    let much_later = start() + 400 * DAY;
    assert!(rotation.issue(&[NAME.to_owned()], much_later).is_err());
    let next = rotation.advance(much_later).unwrap().unwrap();
    let certificate = serving(&next, much_later);
    assert!(believed(&next.bundle_pem(), &certificate, NAME, much_later));
}

#[test]
fn a_certificate_never_outlives_its_ca() {
    let authority = ServingAuthority::generate(start(), HOUR).unwrap();
    let names = [NAME.to_owned()];
    let certificate = authority.issue(&names, start(), DAY).unwrap();
    assert_eq!(certificate.not_after, start() + HOUR);
    let expired = authority.issue(&names, start() + HOUR, DAY).unwrap_err();
    assert!(matches!(expired, ServingError::Expired));
}

#[test]
fn a_damaged_secret_is_refused_by_its_entry() {
    let good = ServingRotation::begin(start()).unwrap().to_secret();
    let other = ServingRotation::begin(start()).unwrap().to_secret();
    let fault = |entry: &str, bytes: Option<&[u8]>| {
        let mut data = good.clone();
        match bytes {
            Some(bytes) => data.insert(entry.to_owned(), bytes.to_vec()),
            None => data.remove(entry),
        };
        ServingRotation::from_secret(&data).unwrap_err().to_string()
    };
    assert_eq!(fault("ca.crt", None), "ca.crt: is missing");
    assert!(fault("ca.crt", Some(b"nothing")).starts_with("ca.crt: damaged PEM"));
    assert!(fault("ca.key", Some(b"\xff")).starts_with("ca.key: is not text"));
    let foreign = fault("ca.key", Some(&other["ca.key"]));
    assert!(
        foreign.starts_with("ca.key: the key cannot be used"),
        "{foreign}"
    );
    assert!(fault("previous.crt", Some(b"")).starts_with("previous.crt: "));
}
