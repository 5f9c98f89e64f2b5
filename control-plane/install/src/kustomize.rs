//! The same as a base for kustomize: the defaults, to be patched by whoever uses it.

use std::collections::BTreeMap;

use crate::{RenderError, Values, objects, to_yaml};

/// The files of `manifests/kustomize`, by name.
///
/// # Errors
/// As of [`objects`].
pub fn kustomization() -> Result<BTreeMap<String, String>, RenderError> {
    let text = "\
# Weft as `weft install` prints it, as a base. Made by WEFT_WRITE_GOLDEN=1 cargo test -p weft-install
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
- weft.yaml
";
    Ok(BTreeMap::from([
        ("kustomization.yaml".to_owned(), text.to_owned()),
        (
            "weft.yaml".to_owned(),
            to_yaml(&objects(&Values::default())?)?,
        ),
    ]))
}
