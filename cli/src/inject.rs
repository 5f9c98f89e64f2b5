//! `weft inject` and `weft uninject`: workloads in a stream of YAML with or without their proxies.
//!
//! Documents that do not change keep their text. One that does is written anew, in the order of its
//! fields but without the comments inside it. Nothing is printed if anything is wrong: half a stream
//! must not be applied.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::Value;
use weft_inject::{Namespace, Outcome, Refusal, inject, uninject, workload};
use weft_source::pieces;

use crate::install::Chosen;
use crate::output::{counted, print};

/// Prints the YAML with a sidecar in every Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet,
/// ReplicationController, Job and CronJob, also inside a List; other objects stay as they are. Whether
/// a namespace is in the mesh is not asked; a pod that opts out stays out. Nothing is contacted.
#[derive(clap::Args)]
pub(crate) struct Inject {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    chosen: Chosen,
}

/// Prints the YAML without the sidecars that `weft inject` or the webhook has put in.
#[derive(clap::Args)]
pub(crate) struct Uninject {
    #[command(flatten)]
    files: Files,
}

#[derive(clap::Args)]
struct Files {
    /// A file of YAML or JSON; `-` is standard input. Repeatable.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Inject {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let settings = self.chosen.values()?.inject_settings();
        let namespace = Namespace::in_mesh();
        self.files
            .rewrite(|pod, notes| match inject(pod, &namespace, &settings) {
                Outcome::Injected(injected) => {
                    notes.extend(injected.warnings);
                    Ok(Some(injected.pod))
                }
                Outcome::NotWanted { reason, warn } => {
                    notes.extend(warn.then(|| format!("no proxy: {reason}")));
                    Ok(None)
                }
                Outcome::Refused(refusal) => Err(refusal),
            })
    }
}

impl Uninject {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        self.files.rewrite(|pod, _| uninject(pod).map(Some))
    }
}

/// What becomes of a pod; texts for people go to the second argument.
type Change<'a> = &'a dyn Fn(&Value, &mut Vec<String>) -> Result<Option<Value>, Refusal>;

impl Files {
    fn rewrite(
        &self,
        change: impl Fn(&Value, &mut Vec<String>) -> Result<Option<Value>, Refusal>,
    ) -> Result<ExitCode> {
        let mut whole = Stream::default();
        for path in &self.files {
            let text = read(path)?;
            whole.add(&shown(path), &text, &change)?;
        }
        for note in &whole.notes {
            eprintln!("{note}");
        }
        if whole.errors.is_empty() {
            print(&whole.text)?;
            return Ok(ExitCode::SUCCESS);
        }
        for error in &whole.errors {
            eprintln!("{error}");
        }
        let count = counted(whole.errors.len(), "error", "errors");
        eprintln!("weft: {count}; nothing was printed");
        Ok(ExitCode::FAILURE)
    }
}

fn read(path: &Path) -> Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        return read.map(|_| text).context("standard input");
    }
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn shown(path: &Path) -> String {
    match path.to_str() {
        Some("-") => "stdin".to_owned(),
        _ => path.display().to_string(),
    }
}

/// What is printed in the end.
#[derive(Default)]
struct Stream {
    text: String,
    notes: Vec<String>,
    errors: Vec<String>,
}

impl Stream {
    fn add(&mut self, file: &str, text: &str, change: Change<'_>) -> Result<()> {
        if !self.text.is_empty() && !text.starts_with("---") {
            self.text.push_str("---\n");
        }
        for piece in pieces(text) {
            match piece.content {
                Ok(Some(mut object)) => {
                    let at = format!("{file}:{}", piece.line);
                    if self.change(&at, &mut object, change) {
                        self.text.push_str(head(piece.text));
                        self.text.push_str(&serde_saphyr::to_string(&object)?);
                    } else {
                        self.text.push_str(piece.text);
                    }
                }
                Ok(None) => self.text.push_str(piece.text),
                Err(error) => {
                    let line = format!("{file}:{}: {}", error.line, error.message);
                    self.errors.push(line);
                }
            }
            if !self.text.is_empty() && !self.text.ends_with('\n') {
                self.text.push('\n');
            }
        }
        Ok(())
    }

    /// Whether the object, or one of a list, has changed.
    fn change(&mut self, at: &str, object: &mut Value, change: Change<'_>) -> bool {
        if let Some(items) = workload::items_mut(object) {
            let changed = items.iter_mut().map(|item| self.change(at, item, change));
            return changed.fold(false, |any, one| any | one);
        }
        let at = format!("{at}: {}", name(object));
        let mut notes = Vec::new();
        let changed = workload::change_pod(object, |pod| change(pod, &mut notes));
        let notes = notes.into_iter().map(|note| format!("{at}: {note}"));
        self.notes.extend(notes);
        changed.unwrap_or_else(|refusal| {
            self.errors.push(format!("{at}: {refusal}"));
            false
        })
    }
}

/// `Deployment shop/web`.
fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let (kind, metadata) = (text(&object["kind"]), &object["metadata"]);
    let own = text(metadata.get("name").unwrap_or(&metadata["generateName"]));
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{own}"),
        None => format!("{kind} {own}"),
    }
}

/// The marker and the comments above a document.
fn head(text: &str) -> &str {
    let is_head = |line: &str| {
        let marker = ["---", "..."]
            .iter()
            .find_map(|marker| line.strip_prefix(marker));
        let rest = marker.unwrap_or(line).trim();
        rest.is_empty() || rest.starts_with('#')
    };
    let length = text
        .split_inclusive('\n')
        .take_while(|line| is_head(line))
        .map(str::len)
        .sum();
    match &text[..length] {
        "" if text.starts_with("---") => "---\n",
        head => head,
    }
}

#[cfg(test)]
mod tests {
    use weft_inject::InjectSettings;

    use super::*;

    const STREAM: &str = "\
# The shop
apiVersion: v1
kind: Service   # as it is
metadata: {name: web}
--- # and what is behind it
# Three of them.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  template:
    spec:
      containers:
      - name: web
        env: [{name: MODE, value: \"0644\"}, {name: BOOST, value: \"yes\"}]
      volumes:
      - name: data
        secret: {secretName: data, defaultMode: 0640}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: settings}}
- {apiVersion: v1, kind: Pod, metadata: {name: one}, spec: {containers: [{name: one}]}}
";

    fn injected(text: &str) -> Stream {
        let change = |pod: &Value, notes: &mut Vec<String>| match inject(
            pod,
            &Namespace::in_mesh(),
            &InjectSettings::default(),
        ) {
            Outcome::Injected(injected) => {
                notes.extend(injected.warnings);
                Ok(Some(injected.pod))
            }
            Outcome::NotWanted { .. } => Ok(None),
            Outcome::Refused(refusal) => Err(refusal),
        };
        let mut stream = Stream::default();
        stream.add("shop.yaml", text, &change).unwrap();
        stream
    }

    fn values(text: &str) -> Vec<Value> {
        let all = pieces(text).into_iter();
        all.filter_map(|piece| piece.content.unwrap()).collect()
    }

    #[test]
    fn workloads_change_and_everything_else_keeps_its_text() {
        let stream = injected(STREAM);
        assert!(stream.errors.is_empty(), "{:?}", stream.errors);
        let (service, rest) = stream.text.split_once("---").unwrap();
        assert!(STREAM.starts_with(service), "{service}");
        assert!(
            rest.contains("\n# Three of them.\napiVersion: apps/v1\n"),
            "{rest}"
        );
        let [_, web, list] = &values(&stream.text)[..] else {
            panic!("{}", stream.text);
        };
        let pod = &web["spec"]["template"]["spec"];
        assert_eq!(pod["initContainers"][1]["name"], "weft-proxy");
        assert_eq!(pod["volumes"][0]["secret"]["defaultMode"], 0o640);
        assert_eq!(pod["containers"][0]["env"][0]["value"], "0644");
        assert!(stream.text.contains("value: \"yes\""), "{}", stream.text);
        assert_eq!(list["items"][0]["kind"], "ConfigMap");
        assert_eq!(
            list["items"][1]["spec"]["initContainers"][0]["name"],
            "weft-init"
        );

        let again = injected(&stream.text);
        assert_eq!(again.text, stream.text, "a second time");
        let mut back = Stream::default();
        back.add("-", &again.text, &|pod, _| uninject(pod).map(Some))
            .unwrap();
        let injected_again = injected(&back.text);
        assert_eq!(injected_again.text, stream.text, "there and back");
        assert!(!back.text.contains("weft"), "{}", back.text);
    }

    #[test]
    fn an_error_names_file_line_object_and_field() {
        let wrong = STREAM.replace(
            "      containers:\n",
            "      hostNetwork: true\n      securityContext: {runAsUser: 1337}\n      containers:\n",
        );
        let notes = injected(&wrong.replace("hostNetwork: true", "dnsPolicy: Default"));
        assert_eq!(notes.errors.len(), 1);
        let start = "shop.yaml:7: Deployment shop/web: spec.template.spec.securityContext.runAsUser: 1337 is";
        assert!(notes.errors[0].starts_with(start), "{:?}", notes.errors);
        let syntax = injected("a: [\n");
        assert!(
            syntax.errors[0].starts_with("shop.yaml:"),
            "{:?}",
            syntax.errors
        );
    }
}
