//! Whose network namespace `init` is about to change: a pod's, never its node's.
//!
//! Enters the namespace of `--netns`, and refuses one that is the node's. Signs of a node, each sure
//! by itself: the namespace is that of the machine's first process; it has an address of the node;
//! or it has none of the pod's. In a pod nothing else can be seen of the node.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use nlink::netlink::{Connection, Route};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The PID namespace that a kernel starts with (`PROC_PID_INIT_INO` of Linux).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Takes the calling thread into the network namespace at `path`, such as `/var/run/netns/NAME`. It
/// must be the only thread.
///
/// # Errors
/// There is no such namespace, it is the one that this was started in, or it may not be entered.
pub fn enter(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("--netns {shown}"))?;
    let there = file
        .metadata()
        .with_context(|| format!("--netns {shown}"))?;
    let here = fs::metadata("/proc/thread-self/ns/net").context("cannot read /proc")?;
    ensure!(
        (there.dev(), there.ino()) != (here.dev(), here.ino()),
        "--netns {shown} is the network namespace that this was started in: the node's, not a pod's"
    );
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("--netns {shown} cannot be entered"))
}

/// Refuses the network namespace of the node. `pod`: addresses that the pod has; `node`: addresses
/// that its node has. Either may be empty where it is not known.
///
/// # Errors
/// It is the node's, or its addresses cannot be read.
pub async fn refuse_nodes(pod: &[IpAddr], node: &[IpAddr]) -> anyhow::Result<()> {
    ensure!(
        !is_of_first_process().context("cannot read /proc")?,
        "this is the network namespace of the machine itself: `init` belongs into a pod, or needs --netns"
    );
    if pod.is_empty() && node.is_empty() {
        return Ok(());
    }
    let connection = Connection::<Route>::new().context("cannot open a netlink socket")?;
    let addresses = connection.get_addresses().await;
    let addresses = addresses.context("cannot read the addresses of this network namespace")?;
    let here: Vec<IpAddr> = addresses
        .iter()
        .filter_map(|address| address.local().or(address.address()))
        .map(IpAddr::to_canonical)
        .collect();
    compare(pod, node, &here)
}

fn compare(pod: &[IpAddr], node: &[IpAddr], here: &[IpAddr]) -> anyhow::Result<()> {
    let has = |all: &[IpAddr], one: &IpAddr| all.contains(&one.to_canonical());
    if let Some(address) = node.iter().find(|address| has(here, address)) {
        bail!(
            "this network namespace has {address}, an address of the node (--host-ip): a pod with hostNetwork cannot have a proxy"
        );
    }
    ensure!(
        pod.is_empty() || pod.iter().any(|address| has(here, address)),
        "this network namespace has none of the pod's addresses (--pod-ip {pod:?}) but {here:?}: it is another's"
    );
    Ok(())
}

/// Whether the machine's own first process can be seen from here and has the same network. A pod
/// sees its own PID namespace, unless it has `hostPID`; then the comparison is right as well.
fn is_of_first_process() -> io::Result<bool> {
    if fs::metadata("/proc/self/ns/pid")?.ino() != FIRST_PID_NAMESPACE {
        return Ok(false);
    }
    let here = fs::metadata("/proc/thread-self/ns/net")?;
    match fs::metadata("/proc/1/ns/net") {
        Ok(first) => Ok((first.dev(), first.ino()) == (here.dev(), here.ino())),
        // Without CAP_SYS_PTRACE it may not be looked at: then the addresses decide.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<IpAddr> {
        text.split_whitespace()
            .map(|ip| ip.parse().unwrap())
            .collect()
    }

    #[test]
    fn a_pod_has_its_own_addresses_and_none_of_its_node() {
        let check = |pod, node, here| {
            let outcome = compare(&addresses(pod), &addresses(node), &addresses(here));
            outcome.map_err(|error| error.to_string())
        };
        let (pod, node) = ("10.0.1.7 fd00::7", "192.168.0.2 fd01::2");
        assert_eq!(check(pod, node, "127.0.0.1 ::1 10.0.1.7 fd00::7"), Ok(()));
        assert_eq!(
            check(pod, node, "127.0.0.1 10.0.1.7"),
            Ok(()),
            "IPv6 comes later"
        );
        assert_eq!(check(pod, "", "10.0.1.7"), Ok(()));
        assert_eq!(check("", "", "192.168.0.2"), Ok(()), "nothing is known");
        let error = check(node, node, "127.0.0.1 192.168.0.2").unwrap_err();
        assert!(
            error.contains("has 192.168.0.2, an address of the node"),
            "{error}"
        );
        let error = check(pod, node, "127.0.0.1 10.0.9.9").unwrap_err();
        assert!(error.contains("none of the pod's addresses"), "{error}");
    }

    #[test]
    fn only_another_namespace_can_be_entered() {
        let own = enter(Path::new("/proc/thread-self/ns/net")).unwrap_err();
        assert!(
            own.to_string().contains("that this was started in"),
            "{own}"
        );
        let none = enter(Path::new("/nowhere")).unwrap_err();
        assert!(none.to_string().contains("--netns /nowhere"), "{none}");
    }
}
