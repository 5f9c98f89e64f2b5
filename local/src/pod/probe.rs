//! Probes as the kubelet runs them: an action every period, a verdict that changes after so many
//! results of one kind. The actions of a pod with a proxy are asked for at the proxy's port 15021;
//! the proxy asks the application itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::Probe as K8sProbe;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use weft_inject::names::HEALTH_PORT;
pub use weft_inject::probes::Hook;
use weft_inject::probes::{key, path as proxy_path};

use crate::http;
use crate::workload::template::Port;

/// Until a probe has succeeded once it is asked at this pace, too: programs here start at once, and a
/// period of ten seconds would be spent waiting. A failure counts at the probe's own pace only, so
/// that a threshold gives a slow program the time that it says.
const EAGER_PERIOD: Duration = Duration::from_millis(100);
/// What has not started by then may take its time.
const EAGER_FOR: Duration = Duration::from_secs(30);

/// A container's probes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Probes {
    /// Holds the others off until it has succeeded.
    pub startup: Option<Probe>,
    /// Decides whether the pod gets traffic.
    pub readiness: Option<Probe>,
    /// Decides whether the container is restarted.
    pub liveness: Option<Probe>,
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probe {
    /// What is asked.
    pub action: Action,
    /// Wait before the first time.
    pub initial_delay: Duration,
    /// Time from one to the next.
    pub period: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many successes in a row to become good.
    pub success_threshold: u32,
    /// So many failures in a row to become bad.
    pub failure_threshold: u32,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    /// GET; 200 to 399 is good.
    Http {
        /// Port.
        port: u16,
        /// Path and query.
        path: String,
        /// Headers.
        headers: Vec<(String, String)>,
    },
    /// A connection that opens is good.
    Tcp {
        /// Port.
        port: u16,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// Port.
        port: u16,
        /// Service name, possibly empty.
        service: String,
    },
    /// A command in the pod; exit code 0 is good.
    Exec(Vec<String>),
}

impl Probes {
    /// Reads the three probes of a container.
    ///
    /// # Errors
    /// The probe's field and why it cannot be run.
    pub fn parse(
        ports: &[Port],
        startup: Option<&K8sProbe>,
        readiness: Option<&K8sProbe>,
        liveness: Option<&K8sProbe>,
    ) -> Result<Self, (&'static str, String)> {
        let read = |field, probe: Option<&K8sProbe>| {
            probe
                .map(|probe| Probe::parse(ports, probe).map_err(|why| (field, why)))
                .transpose()
        };
        Ok(Self {
            startup: read("startupProbe", startup)?,
            readiness: read("readinessProbe", readiness)?,
            liveness: read("livenessProbe", liveness)?,
        })
    }

    /// The probes that the proxy is to carry out for `container`: `CONTAINER/KIND` → probe, as
    /// Kubernetes writes it.
    pub fn rewritten(&self, container: &str) -> Vec<(String, Value)> {
        [
            (Hook::Startup, &self.startup),
            (Hook::Readiness, &self.readiness),
            (Hook::Liveness, &self.liveness),
        ]
        .into_iter()
        .filter_map(|(hook, probe)| {
            let probe = probe.as_ref()?;
            let mut value = probe.action.at_proxy()?;
            value["timeoutSeconds"] = json!(probe.timeout.as_secs());
            Some((key(container, hook), value))
        })
        .collect()
    }
}

impl Probe {
    fn parse(ports: &[Port], probe: &K8sProbe) -> Result<Self, String> {
        let seconds = |value: Option<i32>, default: u64| {
            let value = value.and_then(|value| u64::try_from(value).ok());
            Duration::from_secs(value.unwrap_or(default))
        };
        let count = |value: Option<i32>, default: u32| {
            value
                .and_then(|value| u32::try_from(value).ok())
                .unwrap_or(default)
                .max(1)
        };
        Ok(Self {
            action: Action::parse(ports, probe)?,
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10).max(Duration::from_secs(1)),
            timeout: seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1)),
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
        })
    }

    /// A probe every second of a path on `port`, as the proxy's own readiness is asked.
    pub fn http_every_second(port: u16, path: &str) -> Self {
        Self {
            action: Action::Http {
                port,
                path: path.to_owned(),
                headers: Vec::new(),
            },
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            failure_threshold: 3,
        }
    }

    /// Asks again and again; `changed` hears every new verdict, first of all the first success.
    pub async fn watch<A>(&self, ask: impl Fn() -> A, mut changed: impl FnMut(bool))
    where
        A: Future<Output = bool>,
    {
        tokio::time::sleep(self.initial_delay).await;
        let start = Instant::now();
        let mut due = start;
        let mut good: Option<bool> = None;
        let mut ever_good = false;
        let (mut successes, mut failures) = (0, 0);
        loop {
            let asked = Instant::now();
            let is_due = asked >= due;
            if is_due {
                due = asked + self.period;
            }
            if tokio::time::timeout(self.timeout, ask())
                .await
                .unwrap_or(false)
            {
                (successes, failures) = (successes + 1, 0);
            } else {
                (successes, failures) = (0, failures + u32::from(is_due));
            }
            let verdict = match good {
                Some(true) if failures >= self.failure_threshold => Some(false),
                None | Some(false) if successes >= self.success_threshold => Some(true),
                // Of a container that never was good, only the startup and liveness probes care.
                None if failures >= self.failure_threshold => Some(false),
                _ => None,
            };
            if let Some(verdict) = verdict {
                good = Some(verdict);
                ever_good |= verdict;
                changed(verdict);
            }
            let eager = !ever_good && start.elapsed() < EAGER_FOR;
            let early = Instant::now() + EAGER_PERIOD;
            tokio::time::sleep_until(if eager { due.min(early) } else { due }).await;
        }
    }
}

impl Action {
    fn parse(ports: &[Port], probe: &K8sProbe) -> Result<Self, String> {
        if let Some(get) = &probe.http_get {
            if get.scheme.as_deref() == Some("HTTPS") {
                return Err("httpGet.scheme HTTPS is not asked here".to_owned());
            }
            if get.host.is_some() {
                return Err("httpGet.host is not dialled here; the pod is".to_owned());
            }
            let headers = get.http_headers.iter().flatten();
            return Ok(Self::Http {
                port: port(ports, &get.port)?,
                path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
                headers: headers.map(|h| (h.name.clone(), h.value.clone())).collect(),
            });
        }
        if let Some(socket) = &probe.tcp_socket {
            return Ok(Self::Tcp {
                port: port(ports, &socket.port)?,
            });
        }
        if let Some(grpc) = &probe.grpc {
            return Ok(Self::Grpc {
                port: u16::try_from(grpc.port).map_err(|_| "grpc.port is no port".to_owned())?,
                service: grpc.service.clone().unwrap_or_default(),
            });
        }
        match &probe.exec {
            Some(exec) => Ok(Self::Exec(exec.command.clone().unwrap_or_default())),
            None => Err("has no action".to_owned()),
        }
    }

    /// As the proxy is told; commands are none of its business.
    fn at_proxy(&self) -> Option<Value> {
        Some(match self {
            Self::Http {
                port,
                path,
                headers,
            } => {
                let headers: Vec<Value> = headers
                    .iter()
                    .map(|(name, value)| json!({"name": name, "value": value}))
                    .collect();
                json!({"httpGet": {"port": port, "path": path, "httpHeaders": headers}})
            }
            Self::Tcp { port } => json!({"tcpSocket": {"port": port}}),
            Self::Grpc { port, service } => json!({"grpc": {"port": port, "service": service}}),
            Self::Exec(_) => return None,
        })
    }

    /// The same question put to the proxy.
    pub fn through_proxy(&self, container: &str, hook: Hook) -> Self {
        match self {
            Self::Exec(command) => Self::Exec(command.clone()),
            _ => Self::Http {
                port: HEALTH_PORT,
                path: proxy_path(&key(container, hook)),
                headers: Vec::new(),
            },
        }
    }

    /// Asks the pod at `ip`. Commands are run by the caller, who has the pod; here they are bad.
    pub async fn ask(&self, ip: IpAddr) -> bool {
        match self {
            Self::Http {
                port,
                path,
                headers,
            } => http::get(SocketAddr::new(ip, *port), path, headers)
                .await
                .is_ok_and(|status| (200..400).contains(&status)),
            Self::Tcp { port } => tokio::net::TcpStream::connect((ip, *port)).await.is_ok(),
            Self::Grpc { port, service } => http::grpc_serving(SocketAddr::new(ip, *port), service)
                .await
                .unwrap_or(false),
            Self::Exec(_) => false,
        }
    }
}

fn port(ports: &[Port], value: &IntOrString) -> Result<u16, String> {
    match value {
        IntOrString::Int(number) => {
            u16::try_from(*number).map_err(|_| format!("{number} is no port"))
        }
        IntOrString::String(name) => ports
            .iter()
            .find(|port| port.name == *name)
            .map(|port| port.number)
            .ok_or_else(|| format!("the container has no port named {name:?}")),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn probe(period: u64, success: u32, failure: u32) -> Probe {
        Probe {
            period: Duration::from_secs(period),
            success_threshold: success,
            failure_threshold: failure,
            ..Probe::http_every_second(80, "/")
        }
    }

    /// What `watch` says, and when in milliseconds, to a series of answers, until they have all been given.
    async fn verdicts(probe: Probe, answers: &[bool]) -> Vec<(u128, bool)> {
        let start = tokio::time::Instant::now();
        let heard = RefCell::new(Vec::new());
        let asked = RefCell::new(answers.iter());
        let all_given = tokio::sync::Notify::new();
        let ask = || {
            let answer = asked.borrow_mut().next().copied();
            let all_given = &all_given;
            async move {
                match answer {
                    Some(answer) => answer,
                    None => {
                        all_given.notify_one();
                        std::future::pending().await
                    }
                }
            }
        };
        let watch = probe.watch(ask, |verdict| {
            heard
                .borrow_mut()
                .push((start.elapsed().as_millis(), verdict));
        });
        tokio::select! {
            () = watch => {}
            () = all_given.notified() => {}
        }
        heard.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn eager_until_good_and_then_at_its_period() {
        let answers = [false, false, true, false, true, false, false, false];
        let heard = verdicts(probe(10, 1, 3), &answers).await;
        assert_eq!(heard, [(200, true), (50_000, false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn thresholds_count_in_a_row() {
        let answers = [true, false, true, true];
        let heard = verdicts(probe(1, 2, 3), &answers).await;
        assert_eq!(heard, [(300, true)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_that_never_answers_is_reported_too() {
        let heard = verdicts(probe(10, 1, 3), &[false; 300]).await;
        assert_eq!(heard, [(20_000, false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_starts_late_is_seen_at_once() {
        let mut answers = [false; 48];
        answers[47] = true;
        let heard = verdicts(probe(10, 1, 3), &answers).await;
        assert_eq!(heard, [(4_700, true)]);
    }

    #[test]
    fn the_proxy_is_told_all_but_commands() {
        let probes = Probes {
            readiness: Some(probe(1, 1, 1)),
            liveness: Some(Probe {
                action: Action::Exec(vec!["true".to_owned()]),
                ..probe(1, 1, 1)
            }),
            startup: None,
        };
        let rewritten = probes.rewritten("web");
        assert_eq!(rewritten.len(), 1);
        assert_eq!(rewritten[0].0, "web/readyz");
        assert_eq!(
            rewritten[0].1,
            json!({"httpGet": {"port": 80, "path": "/", "httpHeaders": []}, "timeoutSeconds": 1})
        );
    }
}
