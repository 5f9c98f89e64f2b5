//! The process that holds a pod's namespaces open. `unshare` starts it in new network, mount, UTS
//! and IPC namespaces; it says `entered`, reads one line of JSON ([`Spec`]), builds the pod's root
//! and network, says `ready`, and stays until its standard input closes.
//!
//! The root is an overlay over the machine's own root with everything written kept in memory, so
//! that a pod sees the installed programs but its `/tmp`, `/var` and `/etc` are its own. The run
//! directory, with keys of the control plane in it, is hidden.

use std::ffi::CString;
use std::io::{BufRead, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::mount::{
    MountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_remount, unmount,
};
use serde::{Deserialize, Serialize};

use crate::network;

/// The hidden subcommand.
pub const COMMAND: &str = "local-pause";
/// Where a pod finds its own folder of the mesh: proxy state, join token, trust bundle.
pub const POD_WEFT_DIR: &str = "/run/weft";

/// What a pod's surroundings are to be.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The pod's folder on the outer tmpfs; `weft/` in it becomes `/run/weft`.
    pub dir: PathBuf,
    /// The mesh's run directory, which the pod must not see.
    pub run_dir: PathBuf,
    /// Host name.
    pub hostname: String,
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address.
    pub v6: Ipv6Addr,
    /// The namespace, first of the DNS search path.
    pub namespace: String,
    /// Files that the image brings: path and content.
    pub files: Vec<(PathBuf, String)>,
    /// Volumes.
    pub mounts: Vec<Mount>,
}

/// One volume mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// A directory or file below the pod's folder.
    pub source: PathBuf,
    /// Where the pod sees it.
    pub target: PathBuf,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// Runs the pause process; returns when the supervisor lets go of it.
pub fn run() -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "entered")?;
    let mut input = std::io::stdin().lock();
    let mut line = String::new();
    input.read_line(&mut line)?;
    let spec: Spec = serde_json::from_str(&line).context("reading the pod's description")?;
    build_root(&spec)?;
    rustix::system::sethostname(spec.hostname.as_bytes()).context("setting the host name")?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(network::configure_pod(spec.v4, spec.v6))?;
    writeln!(out, "ready")?;
    input.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn build_root(spec: &Spec) -> anyhow::Result<()> {
    let root = spec.dir.join("root");
    mount_overlay(spec, &root)?;
    for dir in mounts_to_share(
        &std::fs::read_to_string("/proc/self/mountinfo")?,
        &spec.run_dir,
    ) {
        let target = inside(&root, &dir);
        if dir.exists() && target.exists() {
            mount_bind_recursive(&dir, &target)
                .with_context(|| format!("sharing {}", dir.display()))?;
        }
    }
    let run = root.join("run");
    tmpfs(&run)?;
    if !spec.run_dir.starts_with("/run") {
        tmpfs(&inside(&root, &spec.run_dir))?;
    }
    std::fs::create_dir_all(run.join("lock"))?;
    let own = inside(&root, Path::new(POD_WEFT_DIR));
    std::fs::create_dir_all(&own)?;
    mount_bind(spec.dir.join("weft"), &own).context("mounting /run/weft")?;
    write_files(spec, &root)?;
    for volume in &spec.mounts {
        mount_volume(volume, &root)
            .with_context(|| format!("mounting a volume at {}", volume.target.display()))?;
    }
    std::env::set_current_dir(&root)?;
    rustix::process::pivot_root(".", ".").context("changing the root")?;
    unmount(".", UnmountFlags::DETACH).context("leaving the old root")?;
    std::env::set_current_dir("/")?;
    Ok(())
}

fn mount_overlay(spec: &Spec, root: &Path) -> anyhow::Result<()> {
    let (upper, work) = (spec.dir.join("upper"), spec.dir.join("work"));
    for dir in [root, &upper, &work] {
        std::fs::create_dir_all(dir)?;
    }
    let data = format!(
        "lowerdir=/,upperdir={},workdir={}",
        upper.display(),
        work.display()
    );
    let data = CString::new(data)?;
    mount(
        "overlay",
        root,
        "overlay",
        MountFlags::empty(),
        data.as_c_str(),
    )
    .context("mounting the pod's root (overlayfs over /)")
}

fn tmpfs(target: &Path) -> anyhow::Result<()> {
    mount("tmpfs", target, "tmpfs", MountFlags::empty(), c"mode=755")
        .with_context(|| format!("mounting a tmpfs at {}", target.display()))
}

/// The absolute `path` as it is below `root`.
fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The mount points outermost below `/` that a pod shares with the machine: an overlay's lower side
/// ends at file system boundaries, so each is bound in again. Left out: what is a pod's own anyway.
fn mounts_to_share(mountinfo: &str, run_dir: &Path) -> Vec<PathBuf> {
    const OWN: [&str; 4] = ["/run", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];
    let mut points: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        // Spaces are written as \040; such a mount point is left out.
        .filter(|point| *point != "/" && !point.contains('\\'))
        .map(PathBuf::from)
        .filter(|point| !OWN.iter().any(|own| point.starts_with(own)))
        .filter(|point| !point.starts_with(run_dir))
        .collect();
    points.sort();
    let mut shared: Vec<PathBuf> = Vec::new();
    for point in points {
        if !shared.iter().any(|outer| point.starts_with(outer)) {
            shared.push(point);
        }
    }
    shared
}

fn write_files(spec: &Spec, root: &Path) -> anyhow::Result<()> {
    let resolv = format!(
        "nameserver {}\nsearch {}.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n",
        network::GATEWAY_V4,
        spec.namespace
    );
    let hosts = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{}\t{name}\n{}\t{name}\n",
        spec.v4,
        spec.v6,
        name = spec.hostname
    );
    let own = [
        (PathBuf::from("/etc/resolv.conf"), resolv),
        (PathBuf::from("/etc/hosts"), hosts),
        (
            PathBuf::from("/etc/hostname"),
            format!("{}\n", spec.hostname),
        ),
    ];
    for (path, content) in spec.files.iter().chain(&own) {
        let path = inside(root, path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        // It may be a link to a place that the pod does not have.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn mount_volume(volume: &Mount, root: &Path) -> anyhow::Result<()> {
    let target = inside(root, &volume.target);
    if volume.source.is_dir() {
        std::fs::create_dir_all(&target)?;
    } else {
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        if !target.exists() {
            std::fs::write(&target, "")?;
        }
    }
    mount_bind(&volume.source, &target)?;
    if volume.read_only {
        mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY, c"")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outermost_mounts_are_shared_and_the_pods_own_are_not() {
        let mountinfo = "\
22 1 254:0 / / rw - ext4 /dev/vda rw
23 22 0:5 / /dev rw - devtmpfs dev rw
24 23 0:6 / /dev/pts rw - devpts devpts rw
25 22 0:7 / /run rw - tmpfs tmpfs rw
26 22 0:8 / /home rw - ext4 /dev/vdb rw
27 26 0:9 / /home/me/mesh/pods rw - tmpfs tmpfs rw
28 22 0:9 /x /etc/resolv.conf rw - ext4 /dev/vda rw
29 22 0:9 /x /with\\040space rw - ext4 /dev/vda rw
";
        let shared = mounts_to_share(mountinfo, Path::new("/home/me/mesh"));
        assert_eq!(shared, [PathBuf::from("/dev"), PathBuf::from("/home")]);
    }
}
