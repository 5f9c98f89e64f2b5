//! Facts about this machine and the versions of what is compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// Where the figures come from.
#[derive(Debug, Serialize)]
pub struct Machine {
    cpu: String,
    cpus: usize,
    memory_mib: u64,
    kernel: String,
    system: String,
    virtualised: bool,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (cpuinfo, meminfo) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let kib =
            value(&meminfo, "MemTotal", ':').and_then(|text| text.split(' ').next()?.parse().ok());
        Self {
            cpu: value(&cpuinfo, "model name", ':').unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(0, Into::into),
            memory_mib: kib.unwrap_or(0_u64) / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: value(&read("/etc/os-release"), "PRETTY_NAME", '=')
                .unwrap_or_default()
                .trim_matches('"')
                .to_owned(),
            virtualised: value(&cpuinfo, "flags", ':')
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        }
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let Self {
            cpu,
            cpus,
            memory_mib,
            kernel,
            system,
            ..
        } = self;
        let place = if self.virtualised { ", virtual" } else { "" };
        format!("{cpus} CPUs ({cpu}{place}), {memory_mib} MiB, {system}, Linux {kernel}")
    }
}

/// The value of the first line `name SEPARATOR value`.
fn value(text: &str, name: &str, separator: char) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(separator))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

/// What each program says its version is: the first line that has a digit.
pub fn versions(envoy: &Path, weft_proxy: Option<&Path>) -> BTreeMap<String, String> {
    let envoy = envoy.display().to_string();
    let weft = weft_proxy.map(|path| path.display().to_string());
    let programs = [
        ("envoy", Some(envoy.as_str()), "--version"),
        ("haproxy", Some("haproxy"), "-v"),
        ("nginx", Some("nginx"), "-v"),
        ("h2load", Some("h2load"), "--version"),
        ("curl", Some("curl"), "--version"),
        ("weft-proxy", weft.as_deref(), "--version"),
    ];
    let mut versions: BTreeMap<String, String> = programs
        .iter()
        .filter_map(|(name, program, flag)| Some((name, (*program)?, flag)))
        .map(|(name, program, flag)| ((*name).to_owned(), said(program, &[flag])))
        .collect();
    let commit = said(
        "git",
        &[
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
            "--exclude=*",
        ],
    );
    versions.insert("commit".to_owned(), commit);
    versions
}

fn said(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        return "not installed".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text
        .lines()
        .find(|line| line.contains(|c: char| c.is_ascii_digit()));
    // Envoy puts its own path in front.
    let line = line.unwrap_or_default().trim();
    line.split_once(" version: ")
        .map_or(line, |(_, version)| version)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_that_name_counts() {
        let text = "processor\t: 0\nmodel name\t: A CPU: fast\nmodel name\t: B\n";
        assert_eq!(
            value(text, "model name", ':').as_deref(),
            Some("A CPU: fast")
        );
        assert_eq!(value(text, "flags", ':'), None);
    }
}
