use clap::{CommandFactory, Parser};

use super::*;

const LEAST: &[&str] = &[
    "weft-proxy",
    "run",
    "--namespace=shop",
    "--pod=web-1",
    "--pod-ip=10.0.0.7,fd00::7",
    "--control-plane=10.0.0.1:15010",
    "--trust-bundle=/bundle.pem",
    "--token-file=/token",
    "--state-dir=/state",
];

fn resolve(more: &[&str]) -> anyhow::Result<Settings> {
    let line = CommandLine::try_parse_from(LEAST.iter().chain(more))?;
    match line.command {
        Command::Run(flags) => flags.resolve(),
        Command::Init(_) => unreachable!(),
    }
}

#[test]
fn the_command_line_is_consistent() {
    CommandLine::command().debug_assert();
}

#[test]
fn little_is_enough() {
    let settings = resolve(&[]).unwrap();
    assert_eq!(settings.pod.to_string(), "shop/web-1");
    assert_eq!(settings.addresses.len(), 2);
    assert_eq!(settings.service_account, "default");
    assert_eq!(settings.trust_domain.as_str(), "cluster.local");
    assert!(settings.interception && settings.access_log);
    assert_eq!(settings.workers, 1);
}

#[test]
fn explicit_listeners_resolve() {
    let settings = resolve(&[
        "--interception=off",
        "--outbound-listener=127.0.0.1:9000=10.96.0.5:80",
        "--inbound-listener=10.0.0.7:80=127.0.0.1:8080",
    ])
    .unwrap();
    assert!(!settings.interception);
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    assert_eq!(
        settings.listeners,
        [
            (
                address("127.0.0.1:9000"),
                Role::OutboundTo(address("10.96.0.5:80"))
            ),
            (
                address("10.0.0.7:80"),
                Role::InboundTo {
                    pod: address("10.0.0.7:80"),
                    app: address("127.0.0.1:8080")
                }
            ),
        ]
    );
}

#[test]
fn what_cannot_be_used_is_named() {
    for (flags, named) in [
        (&["--admin=0.0.0.0:15000"][..], "--admin"),
        (&["--outbound-listener=9000=10.0.0.1:80"], "is not ip:port"),
        (&["--outbound-listener=127.0.0.1:9000"], "LISTEN=TARGET"),
        (&["--probes={"], "--probes"),
        (&["--trust-domain=Not A Domain"], "--trust-domain"),
        (&["--proxy-uid=4294967"], "--proxy-uid"),
    ] {
        let error = format!("{:#}", resolve(flags).unwrap_err());
        assert!(error.contains(named), "{flags:?}: {error}");
    }
}
