//! Keeps the authority in force and Secret `weft-ca` the same: adopts what the leader wrote, makes
//! the first root, restores what was deleted, and says so where it can do neither.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use weft_certs::{CertificateAuthority, IssuerError};
use weft_xds::Server;

use super::ca_secret::{CaSecret, Found, NotStored, SECRET};
use super::changes::{self, Watched};
use super::supplied_ca;
use crate::authority::Authority;
use crate::findings::Finding;

/// The leader restores at once; after this long, whoever still has the CA does.
const LEADER_FIRST: Duration = Duration::from_secs(5);

pub(crate) struct CaKeeper {
    secret: Arc<CaSecret>,
    authority: Arc<Authority>,
    server: Server,
    /// The evidence has been left.
    marked: AtomicBool,
    /// Since when the Secret has been missing, as seen here.
    absent_since: Mutex<Option<Instant>>,
}

/// What there is to decide by.
struct Situation {
    found: Stored,
    /// This replica has an authority in force.
    at_hand: bool,
    leads: bool,
    /// How long the Secret has been missing, as seen here.
    absent_for: Duration,
    /// There has been a CA in this cluster. Asked only where nothing is stored nor at hand.
    evidence: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    Absent,
    Malformed,
    /// What is in force.
    Same,
    /// Something else.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Put in force what is stored.
    Adopt,
    /// Store what is in force.
    Restore,
    /// Make the first root.
    Make,
    /// Somebody else is to act.
    Wait,
    /// Nothing that this replica could do: issuing has stopped.
    Alarm,
    /// Say what is wrong; the last good one stays in force, if there is one.
    Complain,
}

fn decide(situation: &Situation) -> Step {
    match situation.found {
        Stored::Same => Step::Nothing,
        Stored::Other => Step::Adopt,
        Stored::Malformed => Step::Complain,
        Stored::Absent if situation.at_hand => {
            if situation.leads || situation.absent_for >= LEADER_FIRST {
                Step::Restore
            } else {
                Step::Wait
            }
        }
        Stored::Absent if situation.evidence => Step::Alarm,
        Stored::Absent if situation.leads => Step::Make,
        Stored::Absent => Step::Wait,
    }
}

impl changes::Reconcile for CaKeeper {
    const WHAT: &str = "certificate authority";

    async fn reconcile(&self) -> anyhow::Result<bool> {
        let mut settled = self.agree().await?;
        if settled && self.secret.may_write() {
            if !self.marked.load(Ordering::Relaxed) {
                self.secret.mark().await?;
                self.marked.store(true, Ordering::Relaxed);
            }
            settled = supplied_ca::follow(&self.secret, &self.authority, &self.server).await;
        }
        Ok(settled)
    }
}

impl CaKeeper {
    pub fn new(secret: Arc<CaSecret>, authority: Arc<Authority>, server: Server) -> Self {
        Self {
            secret,
            authority,
            server,
            marked: AtomicBool::new(false),
            absent_since: Mutex::default(),
        }
    }

    /// Keeps for ever.
    pub async fn keep(&self) {
        let changed = Notify::new();
        let secrets = self.secret.api();
        let supplied = async {
            match self.secret.supplied() {
                Some(name) => changes::tell(secrets, &Watched::Name(name), &changed).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changes::tell(secrets, &Watched::Name(SECRET), &changed) => {}
            () = supplied => {}
            () = changes::follow(self, &changed, self.secret.leadership()) => {}
        }
    }

    async fn agree(&self) -> Result<bool, NotStored> {
        let _changing = self.authority.changing().await;
        let found = self.secret.read(self.authority.settings()).await?;
        let at_hand = self.authority.in_force();
        let stored = match &found {
            Found::Absent => Stored::Absent,
            Found::Malformed(..) => Stored::Malformed,
            Found::Authority(found) if is_same(at_hand.as_ref(), found) => Stored::Same,
            Found::Authority(_) => Stored::Other,
        };
        let absent_for = self.absent_for(stored == Stored::Absent);
        let evidence = match (&stored, &at_hand) {
            (Stored::Absent, None) => self.secret.evidence().await?,
            _ => None,
        };
        let step = decide(&Situation {
            found: stored,
            at_hand: at_hand.is_some(),
            leads: self.secret.may_write(),
            absent_for,
            evidence: evidence.is_some(),
        });
        self.note(step, &found, evidence);
        match (step, found, at_hand) {
            (Step::Adopt, Found::Authority(found), _) => self.adopt(*found),
            (Step::Restore, _, Some(at_hand)) => self.restore(&at_hand).await?,
            (Step::Make, ..) => return self.make().await,
            (step, ..) => return Ok(step == Step::Nothing),
        }
        Ok(true)
    }

    /// How long the Secret has been missing.
    fn absent_for(&self, is_absent: bool) -> Duration {
        let since = self.absent_since.lock();
        let mut since = since.unwrap_or_else(PoisonError::into_inner);
        if !is_absent {
            *since = None;
            return Duration::ZERO;
        }
        since.get_or_insert_with(Instant::now).elapsed()
    }

    fn adopt(&self, found: CertificateAuthority) {
        let phase = found.phase();
        tracing::info!(%phase, "the certificate authority of Secret {SECRET} is in force");
        self.server_and_here(found);
    }

    fn server_and_here(&self, authority: CertificateAuthority) {
        self.authority.put_in_force(authority, &self.server);
    }

    async fn restore(&self, at_hand: &CertificateAuthority) -> Result<(), NotStored> {
        if self.secret.create(at_hand).await? {
            tracing::warn!("Secret {SECRET} was missing; it has been restored from memory");
        }
        Ok(())
    }

    /// The first root, or the user's intermediate. False: there is nothing to make it of.
    async fn make(&self) -> Result<bool, NotStored> {
        let settings = self.authority.settings().clone();
        let made = match self.secret.supplied() {
            Some(_) => {
                let supplied = supplied_ca::read(&self.secret, &self.authority).await?;
                let Some(supplied) = supplied else {
                    return Ok(false);
                };
                let made = CertificateAuthority::supplied(settings, &supplied);
                supplied_ca::note_issuer(&self.secret, &self.authority, made.as_ref().err());
                made
            }
            None => CertificateAuthority::generate(settings, self.authority.clock().now()),
        };
        match made {
            Ok(made) => self.put(made).await,
            Err(error) => Ok(self.refuse(&error)),
        }
    }

    async fn put(&self, made: CertificateAuthority) -> Result<bool, NotStored> {
        let created = self.secret.create(&made).await?;
        if created {
            tracing::info!("a certificate authority was made and lies in Secret {SECRET}");
            self.server_and_here(made);
        }
        Ok(created)
    }

    fn refuse(&self, error: &IssuerError) -> bool {
        if self.secret.supplied().is_none() {
            tracing::error!("no certificate authority could be made: {error}");
        }
        false
    }

    fn note(&self, step: Step, found: &Found, evidence: Option<String>) {
        let object = ("Secret", self.secret.namespace(), SECRET);
        let finding = match (step, found, evidence) {
            (Step::Complain, Found::Malformed(field, why), _) => Some(Finding::of_own_object(
                object,
                field,
                "MalformedSecret",
                match self.authority.phase() {
                    Some(_) => format!(
                        "{why}; the last good one stays in use. Deleting the Secret restores it"
                    ),
                    None => format!(
                        "{why}; no certificate is issued until it is restored from a backup"
                    ),
                },
            )),
            (Step::Alarm, _, Some(evidence)) => Some(Finding::of_own_object(
                object,
                "",
                "AuthorityLost",
                format!(
                    "it is missing, but {evidence} shows that there was a CA here: no certificate is issued until it is restored from a backup. A new root would cut off every workload; if that is wanted, remove {evidence}"
                ),
            )),
            _ => None,
        };
        self.authority.note(SECRET, finding);
    }
}

fn is_same(at_hand: Option<&CertificateAuthority>, found: &CertificateAuthority) -> bool {
    at_hand.is_some_and(|at_hand| at_hand.to_bytes() == found.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absent(at_hand: bool, leads: bool, seconds: u64, evidence: bool) -> Step {
        decide(&Situation {
            found: Stored::Absent,
            at_hand,
            leads,
            absent_for: Duration::from_secs(seconds),
            evidence,
        })
    }

    #[test]
    fn a_first_root_is_made_by_the_leader_where_there_has_never_been_one() {
        assert_eq!(absent(false, true, 0, false), Step::Make);
        assert_eq!(absent(false, false, 3600, false), Step::Wait);
    }

    #[test]
    fn with_evidence_and_nothing_at_hand_nobody_makes_a_root() {
        for leads in [true, false] {
            for seconds in [0, 5, 3600] {
                assert_eq!(absent(false, leads, seconds, true), Step::Alarm);
            }
        }
    }

    #[test]
    fn a_deleted_secret_comes_back_from_memory_the_leaders_first() {
        assert_eq!(absent(true, true, 0, true), Step::Restore);
        assert_eq!(absent(true, false, 0, true), Step::Wait);
        assert_eq!(absent(true, false, 5, true), Step::Restore);
    }

    #[test]
    fn what_is_stored_is_adopted_and_what_cannot_be_read_is_left_alone() {
        for (at_hand, leads) in [(false, false), (false, true), (true, false), (true, true)] {
            let step = |found| {
                decide(&Situation {
                    found,
                    at_hand,
                    leads,
                    absent_for: Duration::ZERO,
                    evidence: false,
                })
            };
            assert_eq!(step(Stored::Other), Step::Adopt);
            assert_eq!(step(Stored::Malformed), Step::Complain);
            assert_eq!(step(Stored::Same), Step::Nothing);
        }
    }
}
