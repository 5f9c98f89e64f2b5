//! What is there on the host that a mesh might leave behind: a suite compares its end with its
//! start.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// The host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    things: BTreeSet<Thing>,
}

/// Something that can be left behind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// A process whose command line contains one of the names that were asked for.
    Process(String),
    /// A namespace (`net:[4026531840]`) that some process is in.
    Namespace(String),
    /// A mount point.
    Mount(String),
    /// A cgroup below the root.
    Cgroup(String),
    /// A network link.
    Link(String),
    /// An nftables table.
    Table(String),
    /// A named network namespace.
    NamedNamespace(String),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Self::Process(name) => ("process", name),
            Self::Namespace(name) => ("namespace", name),
            Self::Mount(name) => ("mount", name),
            Self::Cgroup(name) => ("cgroup", name),
            Self::Link(name) => ("link", name),
            Self::Table(name) => ("nft table", name),
            Self::NamedNamespace(name) => ("named network namespace", name),
        };
        write!(f, "{kind} {name}")
    }
}

impl Snapshot {
    /// Looks at the host. Of processes only those count that run below `marker`, a path that is in
    /// the command lines of all processes of the suite's meshes: others come and go. Namespaces
    /// count when such a process is in them.
    pub fn take(marker: &str) -> anyhow::Result<Self> {
        let mut things = BTreeSet::new();
        processes(marker, &mut things)?;
        for line in std::fs::read_to_string("/proc/self/mounts")?.lines() {
            things.extend(
                line.split(' ')
                    .nth(1)
                    .map(|point| Thing::Mount(point.to_owned())),
            );
        }
        for link in std::fs::read_dir("/sys/class/net")?.flatten() {
            things.insert(Thing::Link(link.file_name().to_string_lossy().into_owned()));
        }
        cgroups(Path::new("/sys/fs/cgroup"), 0, &mut things);
        let tables = Command::new("nft")
            .args(["list", "tables"])
            .output()
            .context("running nft")?;
        let tables = String::from_utf8_lossy(&tables.stdout).into_owned();
        things.extend(tables.lines().map(|table| Thing::Table(table.to_owned())));
        for name in std::fs::read_dir("/run/netns")
            .into_iter()
            .flatten()
            .flatten()
        {
            things.insert(Thing::NamedNamespace(
                name.file_name().to_string_lossy().into_owned(),
            ));
        }
        Ok(Self { things })
    }

    /// What is here and was not there.
    pub fn since(&self, earlier: &Self) -> Vec<&Thing> {
        self.things
            .iter()
            .filter(|thing| !earlier.things.contains(*thing))
            .collect()
    }
}

fn processes(marker: &str, things: &mut BTreeSet<Thing>) -> anyhow::Result<()> {
    let own = std::process::id().to_string();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // A process that ends meanwhile is no leak.
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if !line.contains(marker) {
            continue;
        }
        things.insert(Thing::Process(format!("{name} {line}")));
        for namespace in ["net", "mnt", "pid", "uts", "ipc"] {
            if let Ok(link) = std::fs::read_link(entry.path().join("ns").join(namespace)) {
                things.insert(Thing::Namespace(link.display().to_string()));
            }
        }
    }
    Ok(())
}

fn cgroups(dir: &Path, depth: usize, things: &mut BTreeSet<Thing>) {
    if depth > 4 {
        return;
    }
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            things.insert(Thing::Cgroup(entry.path().display().to_string()));
            cgroups(&entry.path(), depth + 1, things);
        }
    }
}
