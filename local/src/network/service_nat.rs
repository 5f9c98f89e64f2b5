//! Service addresses for pods without a proxy, as kube-proxy has them: one nftables table in the
//! outer namespace that rewrites a Service's address and port to one of its endpoints, chosen at
//! random, per address family. The whole table is replaced in one transaction.

use std::fmt::Write;
use std::net::IpAddr;
use std::process::Stdio;

use anyhow::Context;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A Service's address and port, and where connections to it go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The Service's address.
    pub address: IpAddr,
    /// The Service's port.
    pub port: u16,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// Endpoints of the same family.
    pub targets: Vec<(IpAddr, u16)>,
}

/// The ruleset for `forwards`. A Service without endpoints has no rule: its address leads nowhere,
/// and whoever dials it is told so at once.
pub fn ruleset(forwards: &[Forward]) -> String {
    let mut chains = String::new();
    let mut entries = [String::new(), String::new()];
    let mut hairpins = [String::new(), String::new()];
    for (number, forward) in forwards
        .iter()
        .filter(|one| !one.targets.is_empty())
        .enumerate()
    {
        let family = usize::from(forward.address.is_ipv6());
        let protocol = forward.protocol.to_ascii_lowercase();
        let (address, port) = (forward.address, forward.port);
        // Writing to a String cannot fail.
        let _ = write!(
            entries[family],
            "{address} . {protocol} . {port} : goto s{number}, "
        );
        let count = forward.targets.len();
        let choices: Vec<String> = (0..count)
            .map(|index| format!("{index} : goto s{number}e{index}"))
            .collect();
        let choices = choices.join(", ");
        let _ = writeln!(
            chains,
            "  chain s{number} {{ numgen random mod {count} vmap {{ {choices} }}; }}"
        );
        for (index, (ip, port)) in forward.targets.iter().enumerate() {
            let (keyword, bracketed) = match ip {
                IpAddr::V4(ip) => ("ip", ip.to_string()),
                IpAddr::V6(ip) => ("ip6", format!("[{ip}]")),
            };
            let target = format!("meta l4proto {protocol} dnat {keyword} to {bracketed}:{port}");
            let _ = writeln!(chains, "  chain s{number}e{index} {{ {target}; }}");
            let hairpin = format!("{ip} . {ip}, ");
            if !hairpins[family].contains(&hairpin) {
                hairpins[family].push_str(&hairpin);
            }
        }
    }
    let elements = |all: &str| match all.trim_end_matches(", ") {
        "" => String::new(),
        all => format!("elements = {{ {all} }};"),
    };
    let [v4, v6] = entries.each_ref().map(|all| elements(all));
    let [loop4, loop6] = hairpins.each_ref().map(|all| elements(all));
    // Chains come before the maps that lead to them; a pod that reaches itself through a Service
    // must not see its own address as the peer's.
    format!(
        "table inet weft-services
delete table inet weft-services
table inet weft-services {{
{chains}  map v4 {{ type ipv4_addr . inet_proto . inet_service : verdict; {v4} }}
  map v6 {{ type ipv6_addr . inet_proto . inet_service : verdict; {v6} }}
  set loop4 {{ type ipv4_addr . ipv4_addr; {loop4} }}
  set loop6 {{ type ipv6_addr . ipv6_addr; {loop6} }}
  chain services {{
    ip daddr . meta l4proto . th dport vmap @v4
    ip6 daddr . meta l4proto . th dport vmap @v6
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat
    jump services
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat
    ct status dnat ip saddr . ip daddr @loop4 masquerade
    ct status dnat ip6 saddr . ip6 daddr @loop6 masquerade
  }}
}}
"
    )
}

/// Puts a ruleset in force in the namespace of this process.
pub async fn apply(ruleset: &str) -> anyhow::Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting nft")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(ruleset.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    anyhow::ensure!(
        output.status.success(),
        "nft refused the Service addresses: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_with_endpoints_are_forwarded() {
        let forward = |address: &str, targets: &[(&str, u16)]| Forward {
            address: address.parse().unwrap(),
            port: 80,
            protocol: "TCP".to_owned(),
            targets: targets
                .iter()
                .map(|(ip, port)| (ip.parse().unwrap(), *port))
                .collect(),
        };
        let rules = ruleset(&[
            forward("10.96.0.9", &[]),
            forward(
                "10.96.0.10",
                &[("10.244.0.10", 8080), ("10.244.0.11", 8080)],
            ),
            forward("fd00:10:96::a", &[("fd00:10:244::a", 8080)]),
        ]);
        for line in [
            "map v4 { type ipv4_addr . inet_proto . inet_service : verdict; \
             elements = { 10.96.0.10 . tcp . 80 : goto s0 }; }",
            "chain s0 { numgen random mod 2 vmap { 0 : goto s0e0, 1 : goto s0e1 }; }",
            "chain s0e1 { meta l4proto tcp dnat ip to 10.244.0.11:8080; }",
            "chain s1e0 { meta l4proto tcp dnat ip6 to [fd00:10:244::a]:8080; }",
            "elements = { 10.244.0.10 . 10.244.0.10, 10.244.0.11 . 10.244.0.11 };",
        ] {
            assert!(rules.contains(line), "{line}\nis not in\n{rules}");
        }
        assert!(!rules.contains("10.96.0.9"));
    }
}
