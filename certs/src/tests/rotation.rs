//! The root's three phases, over restarts.

use super::*;

fn restart(mesh: &mut Mesh) {
    mesh.authority =
        CertificateAuthority::open(mesh.directory.path(), settings(), mesh.clock.now()).unwrap();
}

fn accepts(bundle: &TrustBundle, identity: &Identity, now: SystemTime) -> bool {
    TrustStore::new(bundle.clone())
        .current()
        .verify(identity.chain().certificates(), PeerRole::Client, now)
        .is_ok()
}

#[test]
fn old_and_new_are_trusted_until_every_leaf_is_new() {
    let mut mesh = Mesh::new();
    let me = id("shop", "web");
    let before = mesh.authority.bundle();
    let old_leaf = mesh.issue(&me);

    mesh.begin_rotation(start()).unwrap();
    restart(&mut mesh);
    let both = mesh.authority.bundle();
    assert_eq!(both.roots(&domain()).len(), 2);
    assert_eq!(
        mesh.authority.phase(),
        RotationPhase::Announced {
            switch_by: start() + DAY
        }
    );
    // The old one still signs: a proxy that knows only the old root accepts new leaves.
    assert!(accepts(&before, &mesh.issue(&me), start()));

    // Yesterday's bundle confirmed, or leaves renewed, moves nothing here.
    for early in [
        Confirmed::Nothing,
        Confirmed::Leaves,
        Confirmed::Bundle(before.hash()),
    ] {
        assert_eq!(mesh.advance_rotation(early, start()).unwrap(), None);
    }
    let switched = mesh
        .advance_rotation(Confirmed::Bundle(both.hash()), start() + HOUR)
        .unwrap();
    let drop_by = start() + HOUR + DAY;
    assert_eq!(switched, Some(RotationPhase::Switched { drop_by }));
    restart(&mut mesh);
    assert_eq!(mesh.authority.phase(), RotationPhase::Switched { drop_by });
    assert_eq!(mesh.authority.bundle(), both);
    let new_leaf = mesh.issue(&me);
    assert!(!accepts(&before, &new_leaf, start()));
    assert!(accepts(&both, &new_leaf, start()) && accepts(&both, &old_leaf, start()));
    assert!(mesh.authority.is_current(new_leaf.chain()));
    assert!(!mesh.authority.is_current(old_leaf.chain()));

    let same_bundle = Confirmed::Bundle(both.hash());
    let advanced = mesh.advance_rotation(same_bundle, start() + HOUR);
    assert_eq!(advanced.unwrap(), None);
    let done = mesh
        .advance_rotation(Confirmed::Leaves, start() + 2 * HOUR)
        .unwrap();
    assert_eq!(done, Some(RotationPhase::Stable));
    restart(&mut mesh);
    let after = mesh.authority.bundle();
    assert_eq!(after.roots(&domain()).len(), 1);
    assert!(accepts(&after, &new_leaf, start()) && !accepts(&after, &old_leaf, start()));
}

#[test]
fn time_alone_moves_each_phase_after_a_leaf_lifetime() {
    let mut mesh = Mesh::new();
    mesh.begin_rotation(start()).unwrap();
    let second = Duration::from_secs(1);
    let mut advance = |at| mesh.advance_rotation(Confirmed::Nothing, at).unwrap();
    assert_eq!(advance(start() + DAY - second), None);
    let drop_by = start() + 2 * DAY;
    assert_eq!(
        advance(start() + DAY),
        Some(RotationPhase::Switched { drop_by })
    );
    assert_eq!(advance(drop_by - second), None);
    assert_eq!(advance(drop_by), Some(RotationPhase::Stable));
    assert_eq!(advance(drop_by + DAY), None);
}

/// No leaf that the old root signed outlives the trust in it.
#[test]
fn the_last_leaf_of_the_old_root_ends_before_its_trust() {
    let mut mesh = Mesh::new();
    mesh.begin_rotation(start()).unwrap();
    let last = issue(&mesh.authority, &id("shop", "web"), start() + DAY);
    let switched = mesh
        .advance_rotation(Confirmed::Nothing, start() + DAY)
        .unwrap();
    let Some(RotationPhase::Switched { drop_by }) = switched else {
        panic!("{switched:?}")
    };
    assert!(last.chain().not_after() <= drop_by);
}

#[test]
fn an_expired_root_is_switched_without_waiting() {
    let mut mesh = Mesh::new();
    let end = mesh.authority.expiry(start()).not_after;
    let late = end + HOUR;
    mesh.begin_rotation(late).unwrap();
    let phase = mesh.advance_rotation(Confirmed::Nothing, late).unwrap();
    assert!(matches!(phase, Some(RotationPhase::Switched { .. })));
    issue(&mesh.authority, &id("shop", "web"), late);
}

#[test]
fn one_rotation_at_a_time() {
    let mut mesh = Mesh::new();
    mesh.begin_rotation(start()).unwrap();
    let bundle = mesh.authority.bundle();
    let error = mesh.begin_rotation(start()).unwrap_err();
    assert!(matches!(error, AuthorityError::Rotation(_)));
    assert_eq!(mesh.authority.bundle(), bundle);
}

#[test]
fn a_phase_that_cannot_be_stored_is_not_entered() {
    let mut mesh = Mesh::new();
    let before = mesh.authority.bundle();
    std::fs::remove_dir_all(mesh.directory.path()).unwrap();
    assert!(mesh.begin_rotation(start()).is_err());
    assert_eq!(mesh.authority.phase(), RotationPhase::Stable);
    assert_eq!(mesh.authority.bundle(), before);
}
