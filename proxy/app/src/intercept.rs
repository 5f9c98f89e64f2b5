//! `weft-proxy init`: the nftables table that leads a pod's TCP through the proxy.
//!
//! Owns one table, `inet weft`, for IPv4 and IPv6, and touches no other. Written over netlink in one
//! transaction that replaces what was there, so a second run changes nothing and traffic never sees
//! half of it; then read back and compared. Needs CAP_NET_ADMIN, in the pod's network namespace.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::{Context, bail};
use ipnet::IpNet;
use nlink::netlink::nftables::{
    BaseChain, Chain, CmpOp, Expr, Family, MetaKey, NatHook, Priority, Register, Rule, Verdict,
};
use nlink::netlink::{Connection, Nftables};
use weft_proxy_net::{INBOUND_PORT, OUTBOUND_PORT, SELF_TEST_PORT};

const TABLE: &str = "weft";
const OUTPUT: &str = "output";
const PREROUTING: &str = "prerouting";
const LOOPBACK: &str = "lo";
const TCP: u8 = 6;

/// Ports on which the pod itself answers in the clear: metrics, readiness and rewritten probes.
const OPEN_PORTS: [u16; 2] = [15020, 15021];

/// What is led through the proxy, and what is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interception {
    /// The proxy's own user: its connections pass. No application may run under it.
    pub proxy_uid: u32,
    /// Destination ports of the application that pass by the proxy.
    pub exclude_outbound_ports: Vec<u16>,
    /// Destinations of the application that pass by the proxy.
    pub exclude_outbound_cidrs: Vec<IpNet>,
    /// Ports of the pod that are reached without the proxy.
    pub exclude_inbound_ports: Vec<u16>,
}

impl Interception {
    /// The table as `nft` would print it.
    pub fn to_nft(&self) -> String {
        let mut text = format!("table inet {TABLE} {{\n");
        for (name, hook, rules) in [
            (OUTPUT, "output", self.output()),
            (PREROUTING, "prerouting", self.prerouting()),
        ] {
            let _ = writeln!(text, "\tchain {name} {{");
            let _ = writeln!(
                text,
                "\t\ttype nat hook {hook} priority dstnat; policy accept;"
            );
            for rule in rules {
                let _ = writeln!(text, "\t\t{}", rule.nft_syntax().unwrap_or_default());
            }
            text.push_str("\t}\n");
        }
        text.push_str("}\n");
        text
    }

    /// Connections that begin in this pod.
    fn output(&self) -> Vec<Rule> {
        let rule = || Rule::new(TABLE, OUTPUT);
        let mut rules = vec![
            // What a proxy dials to see whether this very table is in force.
            rule()
                .match_oif(LOOPBACK)
                .match_tcp_dport(SELF_TEST_PORT)
                .redirect(Some(OUTBOUND_PORT)),
            passes(
                rule()
                    .expr(Expr::Meta {
                        dreg: Register::R0,
                        key: MetaKey::SkUid,
                    })
                    .expr(Expr::Cmp {
                        sreg: Register::R0,
                        op: CmpOp::Eq,
                        data: self.proxy_uid.to_ne_bytes().to_vec(),
                    }),
            ),
            passes(rule().match_oif(LOOPBACK)),
        ];
        rules.extend(self.exclude_outbound_cidrs.iter().map(|net| {
            let (address, prefix): (IpAddr, u8) = (net.network(), net.prefix_len());
            passes(rule().match_daddr(address, prefix))
        }));
        let ports = self.exclude_outbound_ports.iter();
        rules.extend(ports.map(|port| passes(rule().match_tcp_dport(*port))));
        rules.push(rule().match_l4proto(TCP).redirect(Some(OUTBOUND_PORT)));
        rules
    }

    /// Connections that reach this pod. One to 15001 or 15006 is redirected as well: the proxy sees
    /// what it was for, and refuses it.
    fn prerouting(&self) -> Vec<Rule> {
        let rule = || Rule::new(TABLE, PREROUTING);
        let mut rules = vec![passes(rule().match_iif(LOOPBACK))];
        let ports = OPEN_PORTS.iter().chain(&self.exclude_inbound_ports);
        rules.extend(ports.map(|port| passes(rule().match_tcp_dport(*port))));
        rules.push(rule().match_l4proto(TCP).redirect(Some(INBOUND_PORT)));
        rules
    }

    /// Puts the table in force, replacing an earlier one, and reads it back.
    ///
    /// # Errors
    /// No CAP_NET_ADMIN, no nftables in the kernel, or the table read back is not the one written.
    pub async fn install(&self) -> anyhow::Result<()> {
        let connection = Connection::<Nftables>::new().context("cannot open a netlink socket")?;
        // Another init may run at the same moment; whoever comes last finds the table and replaces it.
        let mut outcome = self.replace(&connection).await;
        if matches!(&outcome, Err(error) if error.is_already_exists() || error.is_not_found()) {
            outcome = self.replace(&connection).await;
        }
        match outcome {
            Ok(()) => {}
            Err(error) if error.is_permission_denied() => bail!(
                "writing nftables needs CAP_NET_ADMIN in the pod's network namespace ({error})"
            ),
            Err(error) => return Err(error).context("cannot write the nftables table `inet weft`"),
        }
        self.verify(&connection).await
    }

    async fn replace(&self, connection: &Connection<Nftables>) -> nlink::Result<()> {
        let there = connection
            .list_tables_in(Family::Inet)
            .await?
            .iter()
            .any(|table| table.name == TABLE);
        let mut transaction = connection.transaction();
        if there {
            transaction = transaction.del_table(TABLE, Family::Inet);
        }
        transaction = transaction.add_table(TABLE, Family::Inet);
        for (name, hook, rules) in [
            (OUTPUT, NatHook::Output, self.output()),
            (PREROUTING, NatHook::Prerouting, self.prerouting()),
        ] {
            let base = BaseChain::nat(hook, Priority::DstNat);
            let chain = Chain::new(TABLE, name)?.family(Family::Inet).base(base);
            transaction = transaction.add_chain(chain);
            for rule in rules {
                transaction = transaction.add_rule(rule);
            }
        }
        transaction.commit(connection).await
    }

    /// Compares what the kernel has with what was meant, rule by rule.
    ///
    /// # Errors
    /// It differs, or cannot be read.
    pub async fn verify(&self, connection: &Connection<Nftables>) -> anyhow::Result<()> {
        let installed = connection
            .list_rules(TABLE, Family::Inet)
            .await
            .context("cannot read the nftables table `inet weft` back")?;
        for (chain, meant) in [(OUTPUT, self.output()), (PREROUTING, self.prerouting())] {
            let meant: Vec<_> = meant.iter().map(Rule::nft_syntax).collect();
            let there: Vec<_> = installed
                .iter()
                .filter(|rule| rule.chain == chain)
                .map(|rule| rule.nft_syntax())
                .collect();
            if meant != there {
                bail!("chain {chain} was written as {meant:?} but reads {there:?}");
            }
        }
        Ok(())
    }
}

fn passes(rule: Rule) -> Rule {
    rule.expr(Expr::Verdict(Verdict::Return))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads_as_documented() {
        let interception = Interception {
            proxy_uid: 1337,
            exclude_outbound_ports: vec![53],
            exclude_outbound_cidrs: vec![
                "169.254.0.0/16".parse().unwrap(),
                "fd00:ec2::254/128".parse().unwrap(),
            ],
            exclude_inbound_ports: vec![22],
        };
        assert_eq!(
            interception.to_nft(),
            "table inet weft {
\tchain output {
\t\ttype nat hook output priority dstnat; policy accept;
\t\toifname \"lo\" tcp dport 15002 redirect to :15001
\t\tmeta skuid 1337 return
\t\toifname \"lo\" return
\t\tip daddr 169.254.0.0/16 return
\t\tip6 daddr fd00:ec2::254 return
\t\ttcp dport 53 return
\t\tmeta l4proto tcp redirect to :15001
\t}
\tchain prerouting {
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\tiifname \"lo\" return
\t\ttcp dport 15020 return
\t\ttcp dport 15021 return
\t\ttcp dport 22 return
\t\tmeta l4proto tcp redirect to :15006
\t}
}
"
        );
    }
}
