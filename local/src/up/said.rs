//! What `weft up` says: the state of the mesh again and again → the lines that are news.

use std::collections::{BTreeMap, BTreeSet};

use crate::info::{Finding, Status};

/// What has been said already, so that only news is said.
#[derive(Debug, Default)]
pub(super) struct Said {
    faults: BTreeSet<String>,
    errors: BTreeMap<String, String>,
    restarts: BTreeMap<(String, String), u32>,
    settled: bool,
}

impl Said {
    /// The lines to say now. `findings` are the control plane's.
    pub(super) fn news(&mut self, status: &Status, findings: &[Finding]) -> Vec<String> {
        let mut lines = self.news_of_faults(status, findings);
        for pod in &status.pods {
            let name = format!("{}/{}", pod.namespace, pod.name);
            if let Some(error) = &pod.error
                && self.errors.insert(pod.uid.clone(), error.clone()).as_ref() != Some(error)
            {
                lines.push(format!("pod {name}: {error}"));
            }
            for (container, info) in &pod.containers {
                let known = self
                    .restarts
                    .entry((pod.uid.clone(), container.clone()))
                    .or_default();
                if info.restarts > *known {
                    *known = info.restarts;
                    lines.push(format!(
                        "pod {name}: {container} ended and is started again"
                    ));
                }
            }
        }
        if status.settled != self.settled {
            self.settled = status.settled;
            let pods = status.pods.len();
            lines.extend(
                self.settled
                    .then(|| format!("ready: {pods} pods; Ctrl-C ends them")),
            );
        }
        lines
    }

    /// What came and what went. What this machine cannot run and what is no YAML is in both lists, and said once.
    fn news_of_faults(&mut self, status: &Status, findings: &[Finding]) -> Vec<String> {
        let lesser = findings.iter().filter(|finding| !finding.is_error());
        let errors = findings.iter().filter(|finding| finding.is_error());
        let errors = errors
            .map(Finding::line)
            .chain(status.faults.iter().cloned());
        let errors: BTreeSet<String> = errors.collect();
        let lesser: BTreeSet<String> = lesser.map(Finding::line).collect();
        let mut lines: Vec<String> = errors.difference(&self.faults).cloned().collect();
        // While pods come and go, a policy that chooses none of them yet is no news.
        if status.settled {
            let new = lesser.iter().filter(|line| !self.faults.contains(*line));
            lines.extend(new.filter(|line| !errors.contains(*line)).cloned());
        }
        let is_there = |line: &String| errors.contains(line) || lesser.contains(line);
        let (kept, gone): (BTreeSet<_>, BTreeSet<_>) = std::mem::take(&mut self.faults)
            .into_iter()
            .partition(is_there);
        self.faults = kept;
        self.faults.extend(lines.iter().cloned());
        lines.extend(gone.into_iter().map(|fault| format!("fixed: {fault}")));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: &str, text: &str) -> Finding {
        Finding {
            severity: severity.to_owned(),
            text: text.to_owned(),
        }
    }

    fn status(settled: bool, faults: &[&str]) -> Status {
        Status {
            settled,
            faults: faults.iter().map(ToString::to_string).collect(),
            ..Status::default()
        }
    }

    #[test]
    fn what_is_wrong_is_said_when_it_comes_and_when_it_goes() {
        let mut said = Said::default();
        let settled = status(true, &[]);
        assert_eq!(
            said.news(&settled, &[]),
            ["ready: 0 pods; Ctrl-C ends them"]
        );
        let wrong = [
            finding("error", "a.yaml:1: bad"),
            finding("info", "b.yaml:2: so"),
        ];
        assert_eq!(
            said.news(&settled, &wrong),
            ["a.yaml:1: bad", "b.yaml:2: so (info)"]
        );
        assert_eq!(said.news(&settled, &wrong), [""; 0]);
        assert_eq!(said.news(&settled, &wrong[1..]), ["fixed: a.yaml:1: bad"]);
    }

    #[test]
    fn what_both_processes_see_is_said_once() {
        let mut said = Said::default();
        let both = status(false, &["a.yaml:1: bad"]);
        let wrong = [finding("error", "a.yaml:1: bad")];
        assert_eq!(said.news(&both, &[]), ["a.yaml:1: bad"]);
        assert_eq!(said.news(&both, &wrong), [""; 0]);
        assert_eq!(said.news(&status(false, &[]), &wrong), [""; 0]);
        assert_eq!(
            said.news(&status(false, &[]), &[]),
            ["fixed: a.yaml:1: bad"]
        );
    }

    #[test]
    fn warnings_wait_until_the_pods_are_there() {
        let mut said = Said::default();
        let early = [finding("warning", "p.yaml:3: chooses no pod")];
        assert_eq!(said.news(&status(false, &[]), &early), [""; 0]);
        assert_eq!(said.news(&status(false, &[]), &[]), [""; 0]);
        let lines = said.news(&status(true, &[]), &early);
        assert!(lines.contains(&"p.yaml:3: chooses no pod (warning)".to_owned()));
    }
}
