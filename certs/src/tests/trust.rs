//! Bundles, and chains that must not be believed.

use rcgen::SanType;

use super::*;

fn verify(forge: &Forge, leaf: CertificateDer<'static>) -> Result<Leaf, PeerError> {
    verify_at(forge, leaf, start())
}

fn verify_at(
    forge: &Forge,
    leaf: CertificateDer<'static>,
    now: SystemTime,
) -> Result<Leaf, PeerError> {
    TrustStore::new(forge.bundle())
        .current()
        .verify(&[leaf], PeerRole::Client, now)
}

#[test]
fn a_good_leaf_is_believed_in_both_roles() {
    let forge = Forge::new();
    let leaf = forge.leaf(|_| {});
    let trust = TrustStore::new(forge.bundle()).current();
    for role in [PeerRole::Client, PeerRole::Server] {
        let read = trust
            .verify(std::slice::from_ref(&leaf), role, start())
            .unwrap();
        assert_eq!(read.id, id("shop", "web"));
        assert_eq!(read.not_after, start() + DAY);
    }
    assert_eq!(peer_id(&[leaf]).unwrap(), id("shop", "web"));
}

#[test]
fn a_forged_chain_is_not() {
    let (forge, real) = (Forge::new(), Forge::new());
    let me = id("shop", "web");
    assert_eq!(
        verify(&real, forge.leaf(|_| {})),
        Err(PeerError::UnknownIssuer { id: me })
    );
    // Neither with the right root in the chain, nor signed by a leaf of the mesh.
    let trust = TrustStore::new(real.bundle()).current();
    let with_root = [forge.leaf(|_| {}), real.root.clone()];
    assert!(trust.verify(&with_root, PeerRole::Client, start()).is_err());

    let mut issuer_params = leaf_params();
    let (leaf, key) = real.leaf_with_key(|params| {
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "a leaf that signs");
        issuer_params = params.clone();
    });
    let issuer = Issuer::new(issuer_params, key);
    let mut params = leaf_params();
    params.subject_alt_names = vec![uri(id("shop", "admin").as_str())];
    let forged = params
        .signed_by(&KeyPair::generate().unwrap(), &issuer)
        .unwrap();
    let chain = [forged.der().clone(), leaf];
    assert!(matches!(
        trust.verify(&chain, PeerRole::Client, start()),
        Err(PeerError::Chain { .. } | PeerError::UnknownIssuer { .. })
    ));
}

#[test]
fn a_leaf_has_one_uri_that_is_an_identity() {
    let forge = Forge::new();
    let two = forge.leaf(|params| {
        params
            .subject_alt_names
            .push(uri(id("shop", "admin").as_str()));
    });
    let count = |count| Err(PeerError::Leaf(LeafError::UriCount(count)));
    assert_eq!(verify(&forge, two), count(2));
    let dns_only = forge.leaf(|params| {
        params.subject_alt_names = vec![SanType::DnsName("web".try_into().unwrap())];
    });
    assert_eq!(verify(&forge, dns_only), count(0));
    let none = forge.leaf(|params| params.subject_alt_names.clear());
    assert_eq!(verify(&forge, none), count(0));
    let other_form =
        forge.leaf(|params| params.subject_alt_names = vec![uri("spiffe://cluster.local/web")]);
    assert!(matches!(
        verify(&forge, other_form),
        Err(PeerError::Leaf(LeafError::Identity(_)))
    ));
}

#[test]
fn a_root_vouches_for_its_own_trust_domain_only() {
    let (mine, theirs) = (Forge::new(), Forge::new());
    let other = TrustDomain::new("other").unwrap();
    let stranger = SpiffeId::new(&other, "shop", "web").unwrap();
    let foreign = |forge: &Forge| {
        forge.leaf(|params| params.subject_alt_names = vec![uri(stranger.as_str())])
    };
    assert_eq!(
        verify(&mine, foreign(&mine)),
        Err(PeerError::UntrustedDomain {
            id: stranger.clone()
        })
    );
    let federated = mine
        .bundle()
        .union(&TrustBundle::of(&other, [theirs.root.clone()]).unwrap());
    let trust = TrustStore::new(federated).current();
    let check = |leaf| trust.verify(&[leaf], PeerRole::Client, start());
    assert_eq!(check(foreign(&theirs)).unwrap().id, stranger);
    // Their root does not make our identities, nor ours theirs.
    assert!(matches!(
        check(theirs.leaf(|_| {})),
        Err(PeerError::UnknownIssuer { .. })
    ));
    assert!(matches!(
        check(foreign(&mine)),
        Err(PeerError::UnknownIssuer { .. })
    ));
}

#[test]
fn validity_is_that_of_the_injected_clock() {
    let forge = Forge::new();
    let me = id("shop", "web");
    let at = |now| verify_at(&forge, forge.leaf(|_| {}), now);
    assert!(at(start() + DAY).is_ok());
    assert_eq!(
        at(start() + DAY + Duration::from_secs(1)),
        Err(PeerError::Expired { id: me.clone() })
    );
    assert_eq!(
        at(start() - 2 * HOUR),
        Err(PeerError::NotYetValid { id: me })
    );
    assert!(at(UNIX_EPOCH - HOUR).is_err());
}

#[test]
fn usages_must_be_those_of_a_workload() {
    let forge = Forge::new();
    let usage = Err(PeerError::Leaf(LeafError::Usage));
    for usages in [
        vec![],
        vec![ExtendedKeyUsagePurpose::ClientAuth],
        vec![ExtendedKeyUsagePurpose::ServerAuth],
        vec![ExtendedKeyUsagePurpose::CodeSigning],
        vec![ExtendedKeyUsagePurpose::Any],
    ] {
        let leaf = forge.leaf(|params| params.extended_key_usages = usages);
        assert_eq!(verify(&forge, leaf), usage);
    }
    let authority = Err(PeerError::Leaf(LeafError::Authority));
    let ca = forge.leaf(|params| {
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    assert_eq!(verify(&forge, ca), authority);
    let signs = forge.leaf(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign));
    assert_eq!(verify(&forge, signs), authority);
}

#[test]
fn no_chain_and_garbage_are_errors() {
    let forge = Forge::new();
    let trust = TrustStore::new(forge.bundle()).current();
    let none = trust.verify(&[], PeerRole::Client, start());
    assert_eq!(none, Err(PeerError::Leaf(LeafError::Missing)));
    for garbage in [vec![], vec![0x30, 0x82], vec![0xff; 64]] {
        assert!(matches!(
            verify(&forge, garbage.into()),
            Err(PeerError::Leaf(LeafError::Encoding(_)))
        ));
    }
    let mut trailing = forge.leaf(|_| {}).to_vec();
    trailing.push(0);
    assert!(verify(&forge, trailing.into()).is_err());
}

#[test]
fn an_empty_store_trusts_nobody() {
    let forge = Forge::new();
    let trust = TrustStore::new(TrustBundle::default());
    let verdict = trust
        .current()
        .verify(&[forge.leaf(|_| {})], PeerRole::Client, start());
    assert!(matches!(verdict, Err(PeerError::UntrustedDomain { .. })));
}

#[test]
fn bundles_round_trip_and_hash_by_content() {
    let (a, b) = (Forge::new(), Forge::new());
    let other = TrustDomain::new("other").unwrap();
    let bundle = a
        .bundle()
        .union(&b.bundle())
        .union(&TrustBundle::of(&other, [b.root.clone()]).unwrap());
    let pem = bundle.to_pem();
    assert_eq!(TrustBundle::from_pem(&pem, &domain()).unwrap(), bundle);
    let pairs: Vec<_> = bundle
        .iter()
        .flat_map(|(domain, roots)| roots.iter().map(|root| (domain.clone(), root.clone())))
        .collect();
    assert_eq!(pairs.len(), 3);
    assert_eq!(TrustBundle::from_der(pairs).unwrap(), bundle);

    assert_eq!(
        a.bundle().union(&b.bundle()).hash(),
        b.bundle().union(&a.bundle()).union(&b.bundle()).hash()
    );
    assert_ne!(a.bundle().hash(), b.bundle().hash());
    let elsewhere = TrustBundle::of(&other, [a.root.clone()]).unwrap();
    assert_ne!(a.bundle().hash(), elsewhere.hash());
}

#[test]
fn a_plain_pem_file_is_a_bundle_of_the_default_domain() {
    let forge = Forge::new();
    let plain = crate::chain::pem_block(&forge.root);
    let bundle = TrustBundle::from_pem(&plain, &domain()).unwrap();
    assert_eq!(bundle, forge.bundle());
}

#[test]
fn what_is_no_bundle_is_refused() {
    let forge = Forge::new();
    let read = |pem: &str| TrustBundle::from_pem(pem, &domain()).unwrap_err();
    assert!(matches!(read(""), BundleError::Empty));
    assert!(matches!(read("no PEM"), BundleError::Empty));
    let pem = forge.bundle().to_pem();
    assert!(matches!(read(&pem[..pem.len() - 30]), BundleError::Pem(_)));
    let renamed = pem.replace("cluster.local", "Not A Domain");
    assert!(matches!(read(&renamed), BundleError::Domain(_)));
    let leaf = crate::chain::pem_block(&forge.leaf(|_| {}));
    assert!(matches!(read(&leaf), BundleError::NotAuthority(0)));
    let second = format!("{pem}{leaf}");
    assert!(matches!(read(&second), BundleError::NotAuthority(1)));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(read(garbage), BundleError::Certificate(0, _)));
}

#[test]
fn only_a_different_bundle_is_a_change() {
    let (a, b) = (Forge::new(), Forge::new());
    let store = TrustStore::new(a.bundle());
    let first = store.current().generation();
    assert!(!store.replace(a.bundle()));
    assert_eq!(store.current().generation(), first);
    assert!(store.replace(a.bundle().union(&b.bundle())));
    let second = store.current().generation();
    assert_ne!(second, first);
    assert!(store.replace(a.bundle()));
    assert!(![first, second].contains(&store.current().generation()));
}
