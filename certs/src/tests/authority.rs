//! What the CA issues, and what becomes of its state.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;

fn reopen(mesh: &Mesh) -> Result<CertificateAuthority, AuthorityError> {
    CertificateAuthority::open(mesh.directory.path(), settings(), start())
}

fn request(id: &SpiffeId) -> VerifiedCsr {
    Csr::verify(&PrivateKey::generate().unwrap().csr(id).unwrap(), id).unwrap()
}

#[test]
fn a_leaf_is_what_the_design_says() {
    let mesh = Mesh::new();
    let me = id("shop", "web");
    let chain = mesh.authority.issue(&request(&me), HOUR, start()).unwrap();
    let leaf = chain.leaf();
    assert_eq!(leaf.id, me);
    assert_eq!(leaf.not_after, start() + HOUR);
    assert_eq!(leaf.not_before, start() - HOUR / 10);
    assert!(leaf.serial.as_bytes().len() <= 17);

    assert_eq!(chain.certificates().len(), 1);
    let (_, certificate) = X509Certificate::from_der(&chain.certificates()[0]).unwrap();
    assert!(!certificate.is_ca());
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !usage.any);
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 1);
    let verified = TrustStore::new(mesh.authority.bundle())
        .current()
        .verify(chain.certificates(), PeerRole::Client, start())
        .unwrap();
    assert_eq!(&verified, leaf);
}

#[test]
fn the_root_may_sign_leaves_and_nothing_below() {
    let mesh = Mesh::new();
    let bundle = mesh.authority.bundle();
    let (_, root) = X509Certificate::from_der(&bundle.roots(&domain())[0]).unwrap();
    let constraints = root.basic_constraints().unwrap().unwrap().value;
    assert!(constraints.ca);
    assert_eq!(constraints.path_len_constraint, Some(0));
    assert!(root.name_constraints().unwrap().is_none());
}

#[test]
fn serials_are_random() {
    let mesh = Mesh::new();
    let me = id("shop", "web");
    let serials: std::collections::HashSet<_> = (0..50)
        .map(|_| mesh.issue(&me).chain().serial().clone())
        .collect();
    assert_eq!(serials.len(), 50);
    assert!(serials.iter().any(|serial| serial.as_bytes().len() >= 15));
}

#[test]
fn a_lifetime_is_bounded_by_the_settings_and_the_issuer() {
    let mesh = Mesh::new();
    let request = request(&id("shop", "web"));
    let long = mesh.authority.issue(&request, 30 * DAY, start()).unwrap();
    assert_eq!(long.not_after(), start() + DAY);

    let end = mesh.authority.expiry(start()).not_after;
    let near = mesh.authority.issue(&request, DAY, end - 5 * HOUR).unwrap();
    assert_eq!(near.not_after(), end);
}

#[test]
fn an_issuer_at_its_end_refuses_and_has_warned_before() {
    let mesh = Mesh::new();
    let request = request(&id("shop", "web"));
    let end = mesh.authority.expiry(start()).not_after;
    assert!(!mesh.authority.expiry(start()).alarm);
    assert!(!mesh.authority.expiry(end - 3 * DAY).alarm);
    assert!(mesh.authority.expiry(end - 3 * DAY + HOUR).alarm);
    for now in [end - HOUR, end, end + HOUR] {
        let error = mesh.authority.issue(&request, DAY, now).unwrap_err();
        assert!(matches!(error, IssueError::IssuerEnds { .. }), "{error}");
    }
}

#[test]
fn only_its_own_trust_domain_is_served() {
    let mesh = Mesh::new();
    let stranger = SpiffeId::new(&TrustDomain::new("other").unwrap(), "shop", "web").unwrap();
    let error = mesh.authority.issue(&request(&stranger), HOUR, start());
    assert!(matches!(error, Err(IssueError::OtherDomain(_))));
}

#[test]
fn the_root_survives_a_restart() {
    let mesh = Mesh::new();
    let again = reopen(&mesh).unwrap();
    assert_eq!(again.bundle(), mesh.authority.bundle());
    let leaf = issue(&again, &id("shop", "web"), start());
    let trust = TrustStore::new(mesh.authority.bundle()).current();
    let chain = leaf.chain().certificates();
    trust.verify(chain, PeerRole::Server, start()).unwrap();
}

#[test]
fn the_state_is_the_same_bytes_wherever_it_lies() {
    let mut mesh = Mesh::new();
    let stored = |mesh: &Mesh| fs::read(mesh.directory.path().join("ca.json")).unwrap();
    let again = |bytes: &[u8]| CertificateAuthority::from_bytes(settings(), bytes);
    mesh.begin_rotation(start()).unwrap();
    let announced = stored(&mesh);
    assert_eq!(mesh.authority.to_bytes(), announced);
    mesh.advance_rotation(Confirmed::Nothing, start() + DAY)
        .unwrap();
    let switched = stored(&mesh);
    for bytes in [announced, switched] {
        assert_eq!(again(&bytes).unwrap().to_bytes(), bytes);
    }
    let other = AuthoritySettings::new(TrustDomain::new("other").unwrap());
    let refused = CertificateAuthority::from_bytes(other, &mesh.authority.to_bytes()).unwrap_err();
    assert!(matches!(refused, Damage::OtherDomain { .. }), "{refused}");
}

#[test]
fn everything_in_the_authority_directory_is_for_its_owner() {
    let mesh = Mesh::new();
    let files: Vec<_> = fs::read_dir(mesh.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{file:?}");
    }
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let mesh = Mesh::new();
    let state = mesh.directory.path().join("ca.json");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o640)).unwrap();
    let error = reopen(&mesh).unwrap_err().to_string();
    assert!(error.contains("0640"), "{error}");
}

#[test]
fn lost_state_never_makes_a_new_root() {
    let mesh = Mesh::new();
    let state = mesh.directory.path().join("ca.json");
    fs::remove_file(&state).unwrap();
    let error = reopen(&mesh).unwrap_err();
    assert!(
        matches!(error, AuthorityError::State(StateError::Lost { .. })),
        "{error}"
    );
    assert!(!state.exists());

    // A published bundle is enough of a trace.
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("trust-bundle.pem"), "").unwrap();
    let error = CertificateAuthority::open(directory.path(), settings(), start()).unwrap_err();
    assert!(matches!(
        error,
        AuthorityError::State(StateError::Lost { .. })
    ));
}

#[test]
fn damaged_state_is_an_error_and_stays_as_it_is() {
    let mesh = Mesh::new();
    let state = mesh.directory.path().join("ca.json");
    let whole = fs::read_to_string(&state).unwrap();
    let other_key = PrivateKey::generate()
        .unwrap()
        .to_pem()
        .replace('\n', "\\n");
    let key_start = whole.find("-----BEGIN PRIVATE KEY").unwrap();
    let key_end = key_start + whole[key_start..].find('"').unwrap();
    let wrong_key = format!("{}{other_key}{}", &whole[..key_start], &whole[key_end..]);
    let damaged = [
        String::new(),
        "{}".into(),
        whole[..whole.len() / 2].into(),
        whole.replace("\"version\": 1", "\"version\": 2"),
        whole.replace("stable", "unheard-of"),
        whole.replacen("BEGIN CERTIFICATE", "BEGIN CERTIFICAT", 1),
        wrong_key,
    ];
    for text in damaged {
        assert_ne!(text, whole);
        fs::write(&state, &text).unwrap();
        let error = reopen(&mesh).unwrap_err();
        assert!(
            matches!(error, AuthorityError::State(StateError::Damaged { .. })),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&state).unwrap(), text);
    }
}

#[test]
fn the_state_of_another_mesh_is_refused() {
    let mesh = Mesh::new();
    let other = AuthoritySettings::new(TrustDomain::new("other").unwrap());
    let error = CertificateAuthority::open(mesh.directory.path(), other, start()).unwrap_err();
    assert!(matches!(
        error,
        AuthorityError::State(StateError::OtherDomain { .. })
    ));
}

#[test]
fn two_that_start_at_once_agree_on_one_root() {
    let directory = TempDir::new().unwrap();
    let roots: std::collections::HashSet<_> = std::thread::scope(|scope| {
        let open = || {
            CertificateAuthority::open(directory.path(), settings(), start())
                .unwrap()
                .bundle()
                .hash()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(roots.len(), 1);
}

/// An intermediate below the forge's root, as a user would supply it.
fn supplied(forge: &Forge, path_length: Option<u8>) -> SuppliedIssuer {
    let (chain, key) = forge.leaf_with_key(|params| {
        params.subject_alt_names.clear();
        params.extended_key_usages.clear();
        params.is_ca = match path_length {
            Some(length) => IsCa::Ca(rcgen::BasicConstraints::Constrained(length)),
            None => IsCa::NoCa,
        };
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "intermediate");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    });
    SuppliedIssuer {
        chain_pem: crate::chain::pem_block(&chain),
        key_pem: key.serialize_pem(),
        roots_pem: crate::chain::pem_block(&forge.root),
    }
}

#[test]
fn a_supplied_intermediate_signs_and_goes_along() {
    let forge = Forge::new();
    let directory = TempDir::new().unwrap();
    let supplied = supplied(&forge, Some(0));
    let open = || {
        AuthorityDirectory::new(directory.path())
            .open_supplied(settings(), &supplied, start())
            .unwrap()
    };
    let authority = open();
    assert_eq!(authority.bundle(), forge.bundle());
    let leaf = issue(&authority, &id("shop", "web"), start());
    assert_eq!(leaf.chain().certificates().len(), 2);
    let trust = TrustStore::new(forge.bundle()).current();
    trust
        .verify(leaf.chain().certificates(), PeerRole::Client, start())
        .unwrap();
    assert!(authority.is_current(leaf.chain()));
    assert_eq!(open().phase(), RotationPhase::Stable);
}

#[test]
fn a_supplied_issuer_that_cannot_work_is_refused_at_once() {
    let forge = Forge::new();
    let open = |supplied: &SuppliedIssuer| {
        let directory = TempDir::new().unwrap();
        AuthorityDirectory::new(directory.path()).open_supplied(settings(), supplied, start())
    };
    let good = supplied(&forge, Some(0));
    assert!(open(&good).is_ok());
    let not_a_ca = supplied(&forge, None);
    let other_key = SuppliedIssuer {
        key_pem: PrivateKey::generate().unwrap().to_pem(),
        ..good.clone()
    };
    let other_root = SuppliedIssuer {
        roots_pem: crate::chain::pem_block(&Forge::new().root),
        ..good.clone()
    };
    let no_chain = SuppliedIssuer {
        chain_pem: String::new(),
        ..good
    };
    for bad in [not_a_ca, other_key, other_root, no_chain] {
        assert!(matches!(open(&bad), Err(AuthorityError::Issuer(_))));
    }
}

#[test]
fn replacing_the_supplied_issuer_is_a_rotation() {
    let (old, new) = (Forge::new(), Forge::new());
    let directory = TempDir::new().unwrap();
    let open = |supplied: &SuppliedIssuer| {
        AuthorityDirectory::new(directory.path()).open_supplied(settings(), supplied, start())
    };
    open(&supplied(&old, Some(0))).unwrap();
    let next = supplied(&new, Some(0));
    let authority = open(&next).unwrap();
    assert!(matches!(authority.phase(), RotationPhase::Announced { .. }));
    assert_eq!(authority.bundle(), old.bundle().union(&new.bundle()));
    assert_eq!(open(&next).unwrap().phase(), authority.phase());
    let error = open(&supplied(&Forge::new(), Some(0))).unwrap_err();
    assert!(matches!(error, AuthorityError::Rotation(_)));
}
