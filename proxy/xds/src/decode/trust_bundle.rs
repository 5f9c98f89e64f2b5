//! `TrustBundle`.

use rustls_pki_types::CertificateDer;
use weft_certs::TrustBundle;
use weft_identity::TrustDomain;
use weft_proto::mesh;
use weft_proxy_config::Invalid;

use super::each;

pub(crate) fn trust_bundle(wire: mesh::TrustBundle) -> Result<TrustBundle, Invalid> {
    let domains = each("trust_domains", wire.trust_domains, |one| {
        let domain = TrustDomain::new(&one.name).map_err(|error| Invalid::new("name", error))?;
        Ok((domain, one.roots))
    })?;
    let roots = domains.into_iter().flat_map(|(domain, roots)| {
        roots
            .into_iter()
            .map(move |root| (domain.clone(), CertificateDer::from(root)))
    });
    TrustBundle::from_der(roots).map_err(|error| Invalid::new("trust_domains", error))
}
