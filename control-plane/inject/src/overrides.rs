//! Annotations → what one pod's proxy has otherwise. The pod's own come before its namespace's.

use std::time::Duration;

use ipnet::IpNet;

use crate::Refusal;
use crate::decision::Namespace;
use crate::names;
use crate::pod::Pod;
use crate::settings::Resources;

/// How many letters may be wrong in an annotation's name for it to be taken as another's.
const MAX_DISTANCE: usize = 4;
const MOST_WORKERS: usize = 256;

/// What a pod's annotations say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overrides {
    /// Requests and limits.
    pub resources: Resources,
    /// Log filter.
    pub log: Option<String>,
    /// Threads that carry traffic.
    pub workers: Option<usize>,
    /// How long open connections may take to finish.
    pub drain_timeout: Option<Duration>,
    /// Ports of the pod that pass by the proxy.
    pub skip_inbound_ports: Vec<u16>,
    /// Destination ports that pass by the proxy.
    pub skip_outbound_ports: Vec<u16>,
    /// Destinations that pass by the proxy.
    pub skip_outbound_cidrs: Vec<IpNet>,
    /// Whether the kubelet's probes and hooks are led through the proxy.
    pub rewrite_probes: bool,
}

impl Overrides {
    /// Reads them all, with a warning for each annotation that looks like one of ours and is none.
    pub(crate) fn read(pod: &Pod, namespace: &Namespace) -> Result<(Self, Vec<String>), Refusal> {
        let from = Annotations { pod, namespace };
        let overrides = Self {
            resources: Resources {
                cpu_request: from.read(names::CPU_REQUEST, quantity)?,
                cpu_limit: from.read(names::CPU_LIMIT, quantity)?,
                memory_request: from.read(names::MEMORY_REQUEST, quantity)?,
                memory_limit: from.read(names::MEMORY_LIMIT, quantity)?,
            },
            log: from.read(names::LOG, log_filter)?,
            workers: from.read(names::WORKERS, workers)?,
            drain_timeout: from.read(names::DRAIN_TIMEOUT, whole_seconds)?,
            skip_inbound_ports: from.list(names::SKIP_INBOUND_PORTS, port)?,
            skip_outbound_ports: from.list(names::SKIP_OUTBOUND_PORTS, port)?,
            skip_outbound_cidrs: from.list(names::SKIP_OUTBOUND_CIDRS, cidr)?,
            rewrite_probes: from.read(names::REWRITE_PROBES, switch)?.unwrap_or(true),
        };
        Ok((overrides, from.unknown()))
    }
}

struct Annotations<'a> {
    pod: &'a Pod,
    namespace: &'a Namespace,
}

impl Annotations<'_> {
    fn read<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Refusal> {
        let (whose, text) = match self.pod.annotation(name) {
            Some(text) => ("", text),
            None => match self.namespace.annotations.get(name) {
                Some(text) => (" (of the namespace)", text.as_str()),
                None => return Ok(None),
            },
        };
        let fault = |expected| {
            let field = format!("metadata.annotations[\"{name}\"]{whose}");
            Refusal::new(field, format!("{text:?} is not {expected}"))
        };
        parse(text.trim()).map(Some).map_err(fault)
    }

    fn list<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Refusal> {
        let items = |text: &str| {
            let items = text.split(',').map(str::trim);
            items.filter(|item| !item.is_empty()).map(&parse).collect()
        };
        Ok(self.read(name, items)?.unwrap_or_default())
    }

    fn unknown(&self) -> Vec<String> {
        let ours = self
            .pod
            .annotation_names()
            .filter(|name| name.starts_with(names::PREFIX) && !names::KNOWN.contains(name));
        ours.map(|name| {
            let distance = |known: &&&str| strsim::osa_distance(name, known);
            let close = names::KNOWN.iter().min_by_key(distance);
            let close = close.filter(|known| distance(known) <= MAX_DISTANCE);
            let hint = close.map_or_else(String::new, |known| format!("; did you mean {known}?"));
            format!("metadata.annotations[\"{name}\"]: means nothing to Weft{hint}")
        })
        .collect()
    }
}

/// Whether it is a Kubernetes quantity greater than zero.
pub fn is_quantity(text: &str) -> bool {
    const SUFFIXES: [&str; 16] = [
        "", "m", "u", "n", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    number.parse().is_ok_and(|number: f64| number > 0.0) && SUFFIXES.contains(&suffix)
}

fn quantity(text: &str) -> Result<String, String> {
    let quantity = is_quantity(text).then(|| text.to_owned());
    quantity.ok_or_else(|| "a quantity such as 100m, 0.5, 64Mi or 1Gi".to_owned())
}

/// A level, or `target=level` separated by commas.
fn log_filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_directive = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        LEVELS.contains(&level.to_ascii_lowercase().as_str())
    };
    if text.split(',').all(is_directive) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "one of {} or target=level separated by commas",
            LEVELS.join(", ")
        ))
    }
}

fn workers(text: &str) -> Result<usize, String> {
    let workers = text.parse().ok().filter(|workers| *workers <= MOST_WORKERS);
    workers.ok_or_else(|| format!("a number of threads up to {MOST_WORKERS}; 0 is one per CPU"))
}

fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<weft_api::Duration>().ok().map(Duration::from);
    let whole = duration.filter(|duration| duration.subsec_nanos() == 0);
    whole.ok_or_else(|| "a duration in whole seconds such as 30s or 2m".to_owned())
}

fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| "a list of ports (1 to 65535) separated by commas".to_owned())
}

fn cidr(text: &str) -> Result<IpNet, String> {
    text.parse().map_err(|_| {
        "a list of ranges such as 10.0.0.0/8 or fd00::/64 separated by commas".to_owned()
    })
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        names::ENABLED => Ok(true),
        names::DISABLED => Ok(false),
        _ => Err(format!("{} or {}", names::ENABLED, names::DISABLED)),
    }
}
