//! Reads proxies' metrics (OpenMetrics text) and adds them up to who calls whom.

use std::collections::BTreeMap;

use serde::Serialize;

/// Flags of answers that the proxy gives before it sends anything.
const UNSENT: [&str; 10] = [
    "bad-request",
    "too-large",
    "request-timeout",
    "no-route",
    "invalid-backend",
    "no-endpoint",
    "connect-failed",
    "unresolved",
    "not-in-registry",
    "not-ready",
];

/// One pod's metrics page.
pub(crate) struct Page {
    /// `namespace/pod`
    pub pod: String,
    /// `namespace/workload`, the pods of one Deployment being one.
    pub workload: String,
    pub text: String,
}

/// What went from one workload to one service, as the callers' proxies saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Traffic {
    pub requests: u64,
    /// No answer, HTTP 5xx, or a gRPC status that is the server's fault.
    pub failed: u64,
    /// HTTP 403, gRPC PERMISSION_DENIED.
    pub refused: u64,
    pub retries: u64,
    /// Requests over mutual TLS.
    pub mtls: u64,
    /// Requests that the proxy answered itself before anything was sent: they had no hop that could be encrypted.
    pub unsent: u64,
    /// Requests by HTTP status.
    pub statuses: BTreeMap<u16, u64>,
    /// Upper bound in seconds → requests at or below it.
    #[serde(skip)]
    buckets: Vec<(f64, u64)>,
}

impl Traffic {
    /// Share of requests that did not fail, 0 to 1.
    pub(crate) fn success(&self) -> f64 {
        ratio(self.requests - self.failed, self.requests)
    }

    /// Share of what was sent over mutual TLS, 0 to 1.
    pub(crate) fn mtls_share(&self) -> f64 {
        ratio(self.mtls, self.requests.saturating_sub(self.unsent))
    }

    /// The latency in milliseconds that the share `quantile` of requests stays within, by linear interpolation inside a
    /// bucket.
    pub(crate) fn latency_ms(&self, quantile: f64) -> Option<f64> {
        let wanted = quantile * self.requests as f64;
        let (mut below, mut lower) = (0_u64, 0.0);
        for (upper, count) in &self.buckets {
            if *count as f64 >= wanted && *count > below {
                let within = (wanted - below as f64) / (*count - below) as f64;
                // The last bucket has no upper bound: its lower one is all that is known.
                let upper = if upper.is_finite() { *upper } else { lower };
                return Some((lower + (upper - lower) * within) * 1_000.0);
            }
            (below, lower) = (*count, *upper);
        }
        None
    }

    fn add_bucket(&mut self, upper: f64, count: u64) {
        match self
            .buckets
            .binary_search_by(|(bound, _)| bound.total_cmp(&upper))
        {
            Ok(at) => self.buckets[at].1 += count,
            Err(at) => self.buckets.insert(at, (upper, count)),
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        1.0
    } else {
        part as f64 / whole as f64
    }
}

/// From, to and the backend that a route chose (empty: the service itself).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub from: String,
    pub to: String,
    pub backend: String,
}

/// Everything the pages say.
#[derive(Debug, Default)]
pub(crate) struct Mesh {
    pub edges: BTreeMap<Edge, Traffic>,
    /// What each pod's application was asked, by `namespace/pod`.
    pub pods: BTreeMap<String, Traffic>,
}

impl Mesh {
    pub(crate) fn read(pages: &[Page]) -> Self {
        let mut mesh = Self::default();
        for page in pages {
            for sample in page.text.lines().filter_map(Sample::parse) {
                let traffic = match sample.label("direction") {
                    "outbound" => {
                        let edge = Edge {
                            from: page.workload.clone(),
                            to: sample.service("destination"),
                            backend: sample.service("backend"),
                        };
                        mesh.edges.entry(edge).or_default()
                    }
                    "inbound" => mesh.pods.entry(page.pod.clone()).or_default(),
                    _ => continue,
                };
                sample.add_to(traffic);
            }
        }
        mesh.edges.retain(|_, traffic| traffic.requests > 0);
        mesh
    }
}

/// One line of a metrics page.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    value: u64,
}

impl<'a> Sample<'a> {
    /// `name{label="value",…} number`; anything else (comments, gauges without labels) is not a sample of ours. Label
    /// values of these metrics are names and numbers, so none has an escaped quote.
    fn parse(line: &'a str) -> Option<Self> {
        let (name, rest) = line.split_once('{')?;
        let (labels, value) = rest.rsplit_once("} ")?;
        let labels = labels
            .split("\",")
            .filter_map(|pair| pair.split_once("=\""))
            .map(|(label, value)| (label, value.trim_end_matches('"')))
            .collect();
        let value = value.split(' ').next()?.parse::<f64>().ok()?;
        Some(Self {
            name,
            labels,
            value: value as u64,
        })
    }

    fn label(&self, name: &str) -> &'a str {
        self.labels
            .iter()
            .find(|(label, _)| *label == name)
            .map_or("", |(_, value)| value)
    }

    /// `namespace/name` of the service that the labels with this prefix name; empty without one.
    fn service(&self, prefix: &str) -> String {
        match (
            self.label(&format!("{prefix}_namespace")),
            self.label(prefix),
        ) {
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        }
    }

    fn add_to(&self, traffic: &mut Traffic) {
        match self.name {
            "weft_requests_total" => {
                let status = self.label("status").parse::<u16>().unwrap_or(0);
                let grpc = self.label("grpc_status").parse::<u8>().ok();
                traffic.requests += self.value;
                *traffic.statuses.entry(status).or_default() += self.value;
                if status == 0 || status >= 500 || matches!(grpc, Some(2 | 4 | 13 | 14 | 15)) {
                    traffic.failed += self.value;
                }
                if status == 403 || grpc == Some(7) {
                    traffic.refused += self.value;
                }
                if self.label("mtls") == "true" {
                    traffic.mtls += self.value;
                } else if UNSENT.contains(&self.label("flag")) {
                    traffic.unsent += self.value;
                }
            }
            "weft_request_retries_total" => traffic.retries += self.value,
            "weft_request_duration_seconds_bucket" => {
                let upper = match self.label("le") {
                    "+Inf" => f64::INFINITY,
                    bound => bound.parse().unwrap_or(f64::INFINITY),
                };
                traffic.add_bucket(upper, self.value);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page {
            pod: "shop/shopper-1".into(),
            workload: "shop/shopper".into(),
            text: text.into(),
        }
    }

    #[test]
    fn callers_and_services_become_edges() {
        let labels = "direction=\"outbound\",destination_namespace=\"shop\",destination=\"catalog\",\
                      backend_namespace=\"shop\",backend=\"catalog-v2\",mtls=\"true\"";
        let mesh = Mesh::read(&[page(&format!(
            "# TYPE weft_requests counter\n\
             weft_requests_total{{{labels},status=\"200\"}} 90\n\
             weft_requests_total{{{labels},status=\"503\"}} 10\n\
             weft_requests_total{{direction=\"outbound\",destination=\"gone\",mtls=\"false\",flag=\"no-endpoint\",status=\"503\"}} 2\n\
             weft_requests_total{{direction=\"outbound\",destination=\"gone\",mtls=\"true\",flag=\"\",status=\"200\"}} 1\n\
             weft_request_retries_total{{{labels},status=\"200\"}} 4\n\
             weft_request_duration_seconds_bucket{{le=\"0.001\",{labels}}} 50\n\
             weft_request_duration_seconds_bucket{{le=\"0.002\",{labels}}} 100\n\
             weft_request_duration_seconds_bucket{{le=\"+Inf\",{labels}}} 100\n\
             weft_requests_total{{direction=\"inbound\",status=\"403\",mtls=\"false\"}} 3\n\
             weft_connections_open{{direction=\"inbound\"}} 7\n"
        ))]);
        let edge = Edge {
            from: "shop/shopper".into(),
            to: "shop/catalog".into(),
            backend: "shop/catalog-v2".into(),
        };
        let traffic = &mesh.edges[&edge];
        assert_eq!(
            (
                traffic.requests,
                traffic.failed,
                traffic.retries,
                traffic.mtls
            ),
            (100, 10, 4, 100)
        );
        assert_eq!(traffic.success(), 0.9);
        assert_eq!(traffic.latency_ms(0.5), Some(1.0));
        assert_eq!(traffic.latency_ms(0.75), Some(1.5));
        let inbound = &mesh.pods["shop/shopper-1"];
        assert_eq!(
            (inbound.requests, inbound.refused, inbound.mtls_share()),
            (3, 3, 0.0)
        );
        let gone = mesh.edges.iter().find(|(edge, _)| edge.to == "gone");
        let (_, gone) = gone.unwrap();
        assert_eq!((gone.requests, gone.failed, gone.unsent), (3, 2, 2));
        assert_eq!(gone.mtls_share(), 1.0);
        assert_eq!(mesh.edges.len(), 2);
    }
}
