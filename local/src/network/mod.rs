//! The network between pods: a bridge in the outer namespace that is every pod's gateway, one veth
//! pair per pod. Addresses of pods are host routes (/32, /128), so that all traffic between pods is
//! routed by the outer namespace and its connection tracking sees both directions; that is what
//! makes Service addresses work without hiding the client's address.

pub mod addresses;
pub mod dns;
pub mod service_nat;

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Context;
use nlink::netlink::addr::{Ipv4Address, Ipv6Address};
use nlink::netlink::link::{BridgeLink, VethLink};
use nlink::netlink::route::{Ipv4Route, Ipv6Route};
use nlink::netlink::{Connection, Route};

/// The bridge's name in the outer namespace.
pub const BRIDGE: &str = "weft0";
/// Left to itself a bridge takes the lowest address of its ports, and changes it when that port goes:
/// every pod would talk to a gateway that is no more.
const BRIDGE_MAC: [u8; 6] = [0x02, 0x57, 0x65, 0x66, 0x74, 0x00];
/// The bridge's IPv4 address: gateway, DNS server and control plane of the pods.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// The bridge's IPv6 address.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 1);
/// The interface inside a pod.
const POD_INTERFACE: &str = "eth0";

/// Writes one sysctl of the network namespace that this process is in.
fn sysctl(name: &str, value: &str) -> anyhow::Result<()> {
    let path = format!("/proc/sys/net/{name}");
    std::fs::write(&path, value).with_context(|| format!("writing {value} to {path}"))
}

/// Sets up the outer namespace: loopback, bridge, forwarding.
pub async fn create_bridge() -> anyhow::Result<()> {
    let netlink = Connection::<Route>::new()?;
    sysctl("ipv4/ip_forward", "1")?;
    sysctl("ipv6/conf/all/forwarding", "1")?;
    // Two pods are neighbours on the bridge, but are to talk through the gateway all the same.
    sysctl("ipv4/conf/all/send_redirects", "0")?;
    sysctl("ipv4/conf/default/send_redirects", "0")?;
    netlink.set_link_up("lo").await?;
    let bridge = BridgeLink::new(BRIDGE)
        .stp(false)
        .forward_delay_ms(0)
        .address(BRIDGE_MAC);
    netlink.add_link(bridge).await?;
    netlink.set_link_up(BRIDGE).await?;
    netlink
        .add_address(Ipv4Address::new(BRIDGE, GATEWAY_V4, 16))
        .await?;
    netlink
        .add_address(Ipv6Address::new(BRIDGE, GATEWAY_V6, 64).nodad())
        .await?;
    Ok(())
}

/// Creates the pod's veth pair; the far end lands in the network namespace of `pid` as `eth0`.
/// Called in the outer namespace.
pub async fn attach(veth: &str, pid: u32) -> anyhow::Result<()> {
    let netlink = Connection::<Route>::new()?;
    netlink
        .add_link(VethLink::new(veth, POD_INTERFACE).peer_netns_pid(pid))
        .await
        .with_context(|| format!("creating {veth}"))?;
    netlink.set_link_master(veth, BRIDGE).await?;
    netlink.set_link_up(veth).await?;
    Ok(())
}

/// Gives the pod its addresses and routes. Called inside the pod's namespace.
pub async fn configure_pod(v4: Ipv4Addr, v6: Ipv6Addr) -> anyhow::Result<()> {
    let netlink = Connection::<Route>::new()?;
    sysctl("ipv4/conf/all/accept_redirects", "0")?;
    sysctl("ipv4/conf/eth0/accept_redirects", "0")?;
    sysctl("ipv6/conf/all/accept_redirects", "0")?;
    sysctl("ipv6/conf/eth0/accept_redirects", "0")?;
    sysctl("ipv6/conf/eth0/accept_ra", "0")?;
    // A container's processes may bind any port, as container runtimes have it.
    sysctl("ipv4/ip_unprivileged_port_start", "0")?;
    netlink.set_link_up("lo").await?;
    netlink.set_link_up(POD_INTERFACE).await?;
    netlink
        .add_address(Ipv4Address::new(POD_INTERFACE, v4, 32))
        .await?;
    netlink
        .add_address(Ipv6Address::new(POD_INTERFACE, v6, 128).nodad())
        .await?;
    netlink
        .add_route(
            Ipv4Route::default_route()
                .gateway(GATEWAY_V4)
                .dev(POD_INTERFACE)
                .onlink(),
        )
        .await?;
    netlink
        .add_route(Ipv6Route::from_addr(GATEWAY_V6, 128).dev(POD_INTERFACE))
        .await?;
    netlink
        .add_route(
            Ipv6Route::default_route()
                .gateway(GATEWAY_V6)
                .dev(POD_INTERFACE),
        )
        .await?;
    Ok(())
}
