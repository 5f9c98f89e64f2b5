//! Every way in which a request can be bad.

use rcgen::{
    Attribute, BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType,
};

use super::*;

fn me() -> SpiffeId {
    id("shop", "web")
}

fn request(names: Vec<SanType>, key: &KeyPair) -> Vec<u8> {
    params(names).serialize_request(key).unwrap().der().to_vec()
}

fn params(names: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names;
    params
}

fn verify(der: &[u8]) -> CsrError {
    Csr::verify(der, &me()).unwrap_err()
}

#[test]
fn our_own_request_is_accepted() {
    let key = PrivateKey::generate().unwrap();
    let verified = Csr::verify(&key.csr(&me()).unwrap(), &me()).unwrap();
    assert_eq!(verified.id(), &me());
}

#[test]
fn a_request_for_someone_else_is_refused() {
    let key = PrivateKey::generate().unwrap();
    let error = verify(&key.csr(&id("shop", "admin")).unwrap());
    assert_eq!(
        error,
        CsrError::OtherIdentity {
            asked: id("shop", "admin"),
            proven: me()
        }
    );
}

#[test]
fn exactly_one_uri_is_asked_for() {
    let key = KeyPair::generate().unwrap();
    let mine = || uri(me().as_str());
    let dns = || SanType::DnsName("web.shop".try_into().unwrap());
    assert_eq!(verify(&request(vec![], &key)), CsrError::UriCount(0));
    assert_eq!(verify(&request(vec![dns()], &key)), CsrError::UriCount(0));
    let two = vec![mine(), uri(id("shop", "admin").as_str())];
    assert_eq!(verify(&request(two, &key)), CsrError::UriCount(2));
    assert_eq!(
        verify(&request(vec![mine(), mine()], &key)),
        CsrError::UriCount(2)
    );
    let not_spiffe = request(vec![uri("https://shop/web")], &key);
    assert!(matches!(verify(&not_spiffe), CsrError::Identity(_)));
}

/// A reader that stops at the first extension request would not see the second name.
#[test]
fn a_second_extension_request_hides_nothing() {
    let other = rcgen_extension_request(&[uri(id("shop", "admin").as_str())]);
    let hidden = Attribute {
        oid: &[1, 2, 840, 113_549, 1, 9, 14],
        values: other,
    };
    let key = KeyPair::generate().unwrap();
    let der = params(vec![uri(me().as_str())])
        .serialize_request_with_attributes(&key, vec![hidden])
        .unwrap();
    assert_eq!(verify(der.der()), CsrError::UriCount(2));
}

/// The DER of `SET { SEQUENCE OF Extension }` with these names, cut out of another request.
fn rcgen_extension_request(names: &[SanType]) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let der = request(names.to_vec(), &key);
    // The attribute's OID, 1.2.840.113549.1.9.14; its value follows, all lengths in short form.
    let oid = [
        0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e,
    ];
    let at = der.windows(oid.len()).position(|w| w == oid).unwrap() + oid.len();
    let length = usize::from(der[at + 1]);
    assert!(length < 0x80);
    der[at..at + 2 + length].to_vec()
}

#[test]
fn only_p256_keys_are_certified() {
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let der = request(vec![uri(me().as_str())], &key);
        assert_eq!(verify(&der), CsrError::KeyType);
    }
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let der = request(vec![uri(me().as_str())], &rsa);
    assert_eq!(verify(&der), CsrError::KeyType);
}

#[test]
fn only_ecdsa_with_sha256_signs_requests() {
    let key = KeyPair::generate().unwrap();
    let mut der = request(vec![uri(me().as_str())], &key);
    // ecdsa-with-SHA256, 1.2.840.10045.4.3.2; its neighbour .3 is SHA-384.
    let oid = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let at = der.windows(oid.len()).rposition(|w| w == oid).unwrap();
    der[at + oid.len() - 1] = 0x03;
    assert_eq!(verify(&der), CsrError::SignatureAlgorithm);
}

#[test]
fn the_sender_must_hold_the_key() {
    let mine = PrivateKey::generate().unwrap().csr(&me()).unwrap();
    let other = PrivateKey::generate().unwrap().csr(&me()).unwrap();
    // The other's signature under my request.
    let end = mine.len() - 60;
    let mut forged = mine[..end].to_vec();
    forged.extend_from_slice(&other[other.len() - 60..]);
    assert!(matches!(
        verify(&forged),
        CsrError::Signature | CsrError::Encoding(_)
    ));

    let mut changed = mine.to_vec();
    let name = b"/sa/web";
    let at = changed.windows(name.len()).position(|w| w == name).unwrap();
    changed[at + 4..at + 7].copy_from_slice(b"adm");
    assert_eq!(
        Csr::verify(&changed, &id("shop", "adm")).unwrap_err(),
        CsrError::Signature
    );
}

#[test]
fn what_is_no_request_is_refused() {
    let der = PrivateKey::generate().unwrap().csr(&me()).unwrap();
    for bad in [&b""[..], b"\x30", b"garbage", &der[..der.len() - 1]] {
        assert!(matches!(verify(bad), CsrError::Encoding(_)));
    }
    let mut longer = der.to_vec();
    longer.push(0);
    assert!(matches!(verify(&longer), CsrError::Encoding(_)));
}

#[test]
fn a_request_gets_nothing_but_the_identity() {
    let mesh = Mesh::new();
    let key = KeyPair::generate().unwrap();
    let mut wishes = params(vec![
        uri(me().as_str()),
        SanType::DnsName("kubernetes.default".try_into().unwrap()),
    ]);
    wishes
        .distinguished_name
        .push(DnType::CommonName, "system:masters");
    wishes.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wishes.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    wishes.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let request = wishes.serialize_request(&key).unwrap();

    let verified = Csr::verify(request.der(), &me()).unwrap();
    let chain = mesh.authority.issue(&verified, HOUR, start()).unwrap();
    assert_eq!(chain.id(), &me());
    let leaf = chain.certificates()[0].to_vec();
    for wish in ["kubernetes.default", "system:masters"] {
        assert!(!leaf.windows(wish.len()).any(|w| w == wish.as_bytes()));
    }
}

proptest::proptest! {
    /// The parser is lenient with some tags outside what is signed; whatever it lets through is
    /// what the sender signed.
    #[test]
    fn a_damaged_request_changes_nothing(at in 0_usize..240, bit in 0_u8..8) {
        let mut der = PrivateKey::generate().unwrap().csr(&me()).unwrap().to_vec();
        let whole = Csr::verify(&der, &me()).unwrap();
        let at = at % der.len();
        der[at] ^= 1 << bit;
        if let Ok(read) = Csr::verify(&der, &me()) {
            proptest::prop_assert_eq!(read.public_key, whole.public_key);
        }
    }
}
