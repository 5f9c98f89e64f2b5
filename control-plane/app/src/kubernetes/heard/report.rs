//! One replica's report, and its form in a ConfigMap: bounded, whatever proxies say.
//!
//! Pods are told of by a mark of eight bytes, so that tens of thousands fit. A report that is cut
//! off at its bound says less than the replica heard, never more: a rotation then waits for its
//! deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weft_identity::PodRef;

use crate::mesh::Refusals;

/// The key of the ConfigMap.
pub(crate) const KEY: &str = "report.json";
/// Bytes of refusals that are told, about.
const MOST_REFUSED: usize = 128 * 1024;
/// Of one object and of one text: a status tells of fewer.
const MOST_TEXTS: usize = 8;
const LONGEST_TEXT: usize = 1024;
/// Together with the refusals less than the 1 MiB that a ConfigMap may have.
const MOST_PODS: usize = 60_000;

/// Stands for a pod.
type Mark = [u8; 8];

/// What a replica heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub refusals: Refusals,
    pub confirmed: Confirmations,
}

/// Pods that have confirmed a step of a root rotation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Confirmations {
    /// Which step of which rotation; empty while there is none.
    step: String,
    pods: BTreeSet<Mark>,
}

impl Confirmations {
    pub fn new<'a>(step: String, pods: impl IntoIterator<Item = &'a PodRef>) -> Self {
        let mut pods: BTreeSet<Mark> = pods.into_iter().map(mark).collect();
        while pods.len() > MOST_PODS {
            pods.pop_last();
        }
        Self { step, pods }
    }

    /// Whether the pod has confirmed this step.
    pub fn has(&self, step: &str, pod: &PodRef) -> bool {
        self.step == step && self.pods.contains(&mark(pod))
    }

    /// How many pods it tells of.
    pub fn len(&self) -> usize {
        self.pods.len()
    }
}

fn mark(pod: &PodRef) -> Mark {
    let digest = Sha256::digest(pod.to_string());
    std::array::from_fn(|i| digest[i])
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    refused: Vec<Refused>,
    #[serde(default)]
    step: String,
    /// The marks, one after the other, in base64.
    #[serde(default)]
    confirmed: String,
}

#[derive(Serialize, Deserialize)]
struct Refused {
    kind: String,
    namespace: String,
    name: String,
    texts: Vec<String>,
}

impl Report {
    pub fn to_json(&self) -> String {
        let marks: Vec<u8> = self.confirmed.pods.iter().flatten().copied().collect();
        let wire = Wire {
            refused: bounded(&self.refusals),
            step: self.confirmed.step.clone(),
            confirmed: STANDARD.encode(marks),
        };
        // Strings in lists have a form in JSON.
        serde_json::to_string(&wire).unwrap_or_default()
    }

    pub fn from_json(text: &str) -> Result<Self, String> {
        let wire: Wire = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let marks = STANDARD.decode(&wire.confirmed);
        let marks = marks.map_err(|error| format!("confirmed: {error}"))?;
        let (marks, rest) = marks.as_chunks();
        if !rest.is_empty() {
            return Err("confirmed: it does not end with a whole mark".to_owned());
        }
        let mut refusals = Refusals::default();
        for object in wire.refused {
            for text in object.texts {
                refusals.add(&object.kind, &object.namespace, &object.name, text);
            }
        }
        Ok(Self {
            refusals,
            confirmed: Confirmations {
                step: wire.step,
                pods: marks.iter().copied().collect(),
            },
        })
    }
}

/// What is told of the refusals, as far as there is room.
fn bounded(refusals: &Refusals) -> Vec<Refused> {
    let mut room = MOST_REFUSED;
    let mut told = Vec::new();
    for (object, texts) in refusals.iter() {
        let shortened = |text: &String| text[..text.floor_char_boundary(LONGEST_TEXT)].to_owned();
        let texts: Vec<String> = texts.iter().take(MOST_TEXTS).map(shortened).collect();
        let size: usize = texts.iter().map(String::len).sum();
        match room.checked_sub(size + object.namespace.len() + object.name.len()) {
            Some(left) => room = left,
            None => break,
        }
        told.push(Refused {
            kind: object.kind.to_string(),
            namespace: object.namespace.to_string(),
            name: object.name.to_string(),
            texts,
        });
    }
    told
}

/// The reports of other replicas, by pod and its UID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reports(pub BTreeMap<(String, String), Arc<Report>>);

impl Reports {
    /// Whether one of them knows that the pod has confirmed this step.
    pub fn confirm(&self, step: &str, pod: &PodRef) -> bool {
        let mut reports = self.0.values();
        reports.any(|report| report.confirmed.has(step, pod))
    }

    /// Adds what they say is refused.
    pub fn add_to(&self, refusals: &mut Refusals) {
        for report in self.0.values() {
            for (object, texts) in report.refusals.iter() {
                for text in texts {
                    refusals.add(&object.kind, &object.namespace, &object.name, text.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> PodRef {
        PodRef::new("shop", name).unwrap()
    }

    #[test]
    fn what_is_told_is_read_again() {
        let mut report = Report::default();
        report.refusals.add("Service", "shop", "web", "no".into());
        report
            .refusals
            .add("Service", "shop", "web", "never".into());
        report.confirmed = Confirmations::new("first".into(), [&pod("a"), &pod("b")]);
        let read = Report::from_json(&report.to_json()).unwrap();
        assert_eq!(read, report);
        assert!(read.confirmed.has("first", &pod("a")));
        assert!(!read.confirmed.has("first", &pod("c")));
        assert!(!read.confirmed.has("second", &pod("a")));
    }

    #[test]
    fn a_step_is_confirmed_by_whichever_replica_heard_it() {
        let told = |step: &str, name| {
            let report = Report {
                confirmed: Confirmations::new(step.into(), [&pod(name)]),
                ..Report::default()
            };
            ((name.to_owned(), String::new()), Arc::new(report))
        };
        let reports = Reports(BTreeMap::from([told("now", "a"), told("before", "b")]));
        assert!(reports.confirm("now", &pod("a")));
        // Of a replica that has not come that far yet nothing counts.
        assert!(!reports.confirm("now", &pod("b")));
    }

    #[test]
    fn a_report_has_an_end() {
        let mut report = Report::default();
        for object in 0..2000 {
            for text in 0..20 {
                let text = format!("{text} {}", "ä".repeat(2000));
                report
                    .refusals
                    .add("Service", "shop", &object.to_string(), text);
            }
        }
        let pods: Vec<PodRef> = (0..MOST_PODS + 10).map(|i| pod(&i.to_string())).collect();
        report.confirmed = Confirmations::new("now".into(), &pods);
        let json = report.to_json();
        assert!(json.len() < 1_000_000, "{}", json.len());
        let read = Report::from_json(&json).unwrap();
        assert_eq!(read.confirmed.len(), MOST_PODS);
        assert_eq!(read.refusals.of("Service", "shop", "0").len(), MOST_TEXTS);
    }

    #[test]
    fn what_is_damaged_is_nobodys_report() {
        for text in ["", "1", r#"{"confirmed":"YQ=="}"#, r#"{"confirmed":"?"}"#] {
            assert!(Report::from_json(text).is_err(), "{text}");
        }
        assert_eq!(Report::from_json("{}"), Ok(Report::default()));
    }
}
