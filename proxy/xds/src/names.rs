//! Host names → addresses, by the pod's resolv.conf and hosts file, both read anew at each look-up.
//!
//! Not by `getaddrinfo`: the shipped program is static, and glibc would look for libraries that its
//! image does not have.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::Resolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// A server that does not answer by then is asked again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 3;

/// The addresses of `target`, `host:port` or `ip:port`; at least one.
///
/// # Errors
/// `InvalidInput`: it is neither. Otherwise the name cannot be looked up or has no address.
pub async fn addresses(target: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = target.parse() {
        return Ok(vec![address]);
    }
    let (host, port) = target
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)))
        .filter(|(host, _)| !host.is_empty())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is not HOST:PORT"))?;
    let found = hosts(host).await?;
    Ok(found.map(|ip: IpAddr| SocketAddr::new(ip, port)).collect())
}

async fn hosts(host: &str) -> io::Result<impl Iterator<Item = IpAddr>> {
    let mut builder = match Resolver::builder_tokio() {
        Ok(builder) => builder,
        // Without name servers, the hosts file may still do.
        Err(error) => {
            tracing::debug!("no name servers: {error}");
            let none = ResolverConfig::default();
            Resolver::builder_with_config(none, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.timeout = ATTEMPT_TIMEOUT;
    options.attempts = ATTEMPTS;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Always;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    let resolver = builder.build().map_err(failed)?;
    let found = resolver.lookup_ip(host).await.map_err(failed)?;
    let found: Vec<IpAddr> = found.iter().collect();
    if found.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{host} has no address"),
        ));
    }
    Ok(found.into_iter())
}

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_need_no_look_up_and_the_hosts_file_counts() {
        let ip = "[::1]:80".parse().unwrap();
        assert_eq!(addresses("[::1]:80").await.unwrap(), [ip]);
        let local = addresses("localhost:15010").await.unwrap();
        assert!(
            local
                .iter()
                .all(|a| a.ip().is_loopback() && a.port() == 15010)
        );
        for neither in ["localhost", ":80", "a:b", ""] {
            let error = addresses(neither).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{neither}");
        }
    }
}
