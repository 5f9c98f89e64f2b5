//! The supervisor's socket: HTTP/1.1 with JSON over a Unix socket that only root reaches.
//!
//! | request | does |
//! |---|---|
//! | `GET /v1/status` | everything there is to know |
//! | `POST /v1/exec` | runs a command; the body is a stream of frames |
//! | `POST /v1/restart` | rolls a Deployment over |
//! | `POST /v1/delete-pod` | deletes a pod |
//! | `POST /v1/signal` | sends a signal to a process of a pod |
//! | `POST /v1/control-plane` | starts, stops or kills the control plane |
//! | any `/v1/proxy/NAMESPACE/POD/…` | passed to the admin socket of that pod's proxy |

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cluster::{Cluster, PodState, State};
use super::{control_plane, exec};
use crate::info::{
    ContainerInfo, ControlPlaneOrder, DeploymentInfo, ExecRequest, Named, PodInfo, ServiceInfo,
    SignalName, SignalRequest, Status,
};
use crate::pod::proxy;
use crate::workload::Key;

/// More than any order needs.
const MAX_REQUEST: usize = 1 << 20;

type Body = BoxBody<Bytes, Infallible>;

/// Serves until dropped.
pub async fn serve(
    cluster: Arc<Cluster>,
    control_plane: watch::Sender<bool>,
    listener: UnixListener,
) -> anyhow::Result<()> {
    let control_plane = Arc::new(control_plane);
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let (cluster, control_plane) = (cluster.clone(), control_plane.clone());
        let service =
            service_fn(move |request| {
                let (cluster, control_plane) = (cluster.clone(), control_plane.clone());
                async move {
                    let response = answer(&cluster, &control_plane, request).await;
                    Ok::<_, Infallible>(response.unwrap_or_else(|error| {
                        text(StatusCode::BAD_REQUEST, format!("{error:#}\n"))
                    }))
                }
            });
        connections.spawn(async move {
            // A client that goes away in the middle is nobody's concern.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    cluster: &Arc<Cluster>,
    control_plane: &watch::Sender<bool>,
    request: Request<Incoming>,
) -> anyhow::Result<Response<Body>> {
    let path = request.uri().path().to_owned();
    if let Some(target) = path.strip_prefix("/v1/proxy/") {
        return proxy_admin(cluster, target, request).await;
    }
    match (request.method().clone(), path.as_str()) {
        (Method::GET, "/v1/status") => {
            let status = cluster.read(|state| status(state, *control_plane.borrow()));
            Ok(text(StatusCode::OK, serde_json::to_string(&status)?))
        }
        (Method::POST, "/v1/exec") => {
            let frames = exec::start(cluster, body::<ExecRequest>(request).await?)?;
            let frames = tokio_stream::wrappers::ReceiverStream::new(frames)
                .map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
            Ok(Response::new(BodyExt::boxed(StreamBody::new(frames))))
        }
        (Method::POST, "/v1/restart") => {
            let named: Named = body(request).await?;
            let key = Key::new(named.namespace, named.name);
            cluster.update(|state| {
                anyhow::ensure!(
                    state.desired.deployments.contains_key(&key),
                    "there is no Deployment {key}"
                );
                *state.restarts.entry(key).or_default() += 1;
                Ok(())
            })?;
            Ok(done())
        }
        (Method::POST, "/v1/delete-pod") => {
            let named: Named = body(request).await?;
            let key = Key::new(named.namespace, named.name);
            let uid = cluster.read(|state| Some(state.pod(&key)?.order.uid.clone()));
            let uid = uid.with_context(|| format!("there is no pod {key}"))?;
            cluster.delete(&uid);
            Ok(done())
        }
        (Method::POST, "/v1/signal") => {
            send_signal(cluster, &body(request).await?)?;
            Ok(done())
        }
        (Method::POST, "/v1/control-plane") => {
            let order: ControlPlaneOrder = body(request).await?;
            if order != ControlPlaneOrder::Kill {
                control_plane.send_replace(order == ControlPlaneOrder::Start);
            }
            if matches!(
                order,
                ControlPlaneOrder::Kill | ControlPlaneOrder::KillAndStop
            ) {
                let pid = cluster.read(|state| state.control_plane.pid);
                anyhow::ensure!(
                    control_plane::signal(pid, Signal::KILL),
                    "the control plane is not running"
                );
            }
            Ok(done())
        }
        _ => Ok(text(StatusCode::NOT_FOUND, "no such request\n".to_owned())),
    }
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> anyhow::Result<T> {
    let body = Limited::new(request.into_body(), MAX_REQUEST)
        .collect()
        .await;
    let body = body
        .map_err(|error| anyhow::anyhow!("reading the request: {error}"))?
        .to_bytes();
    serde_json::from_slice(&body).context("reading the request")
}

fn text(status: StatusCode, content: String) -> Response<Body> {
    let mut response = Response::new(BodyExt::boxed(Full::from(content)));
    *response.status_mut() = status;
    response
}

fn done() -> Response<Body> {
    text(StatusCode::OK, "{}".to_owned())
}

fn send_signal(cluster: &Cluster, request: &SignalRequest) -> anyhow::Result<()> {
    let key = Key::new(&request.namespace, &request.pod);
    let pid = cluster.read(|state| state.pod(&key)?.containers.get(&request.container)?.pid);
    let signal = match request.signal {
        SignalName::Term => Signal::TERM,
        SignalName::Kill => Signal::KILL,
        SignalName::Stop => Signal::STOP,
        SignalName::Continue => Signal::CONT,
    };
    anyhow::ensure!(
        control_plane::signal(pid, signal),
        "pod {key} has no running process {}",
        request.container
    );
    Ok(())
}

/// `NAMESPACE/POD/rest?query` → `/rest?query` of that proxy.
async fn proxy_admin(
    cluster: &Cluster,
    target: &str,
    request: Request<Incoming>,
) -> anyhow::Result<Response<Body>> {
    let mut parts = target.splitn(3, '/');
    let (Some(namespace), Some(pod), rest) = (parts.next(), parts.next(), parts.next()) else {
        anyhow::bail!("write /v1/proxy/NAMESPACE/POD/PATH");
    };
    let key = Key::new(namespace, pod);
    let uid = cluster.read(|state| {
        let pod = state.pod(&key).filter(|pod| pod.order.meshed)?;
        Some(pod.order.uid.clone())
    });
    let uid = uid.with_context(|| format!("there is no meshed pod {key}"))?;
    let socket = proxy::admin_socket(&cluster.layout.pods().join(uid));
    let query = request
        .uri()
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let path = format!("/{}{query}", rest.unwrap_or_default());
    let method = request.method().clone();
    let body = Limited::new(request.into_body(), MAX_REQUEST)
        .collect()
        .await;
    let body = body
        .map_err(|error| anyhow::anyhow!("reading the request: {error}"))?
        .to_bytes();
    let (status, body) = crate::http::unix(&socket, method, &path, body)
        .await
        .map_err(|error| anyhow::anyhow!("the proxy of {key} does not answer: {error}"))?;
    let mut response = Response::new(BodyExt::boxed(Full::from(body)));
    *response.status_mut() = StatusCode::from_u16(status)?;
    Ok(response)
}

fn status(state: &State, control_plane_wanted: bool) -> Status {
    let deployments: Vec<DeploymentInfo> = state
        .desired
        .deployments
        .keys()
        .map(|key| deployment(state, key))
        .collect();
    let settled = state.synced
        && (!control_plane_wanted || state.control_plane.pid.is_some())
        && state
            .pods
            .values()
            .all(|pod| pod.ready() && pod.deleting.is_none())
        && state
            .desired
            .pods
            .keys()
            .all(|key| state.pod(key).is_some())
        && deployments.iter().all(|one| {
            (one.updated, one.ready, one.pods) == (one.replicas, one.replicas, one.replicas)
        });
    Status {
        settled,
        faults: state.faults.clone(),
        control_plane_pid: state.control_plane.pid,
        control_plane_starts: state.control_plane.starts,
        deployments,
        pods: state.pods.values().map(pod).collect(),
        services: state
            .services
            .iter()
            .map(|service| ServiceInfo {
                namespace: service.key.namespace.clone(),
                name: service.key.name.clone(),
                ips: service.addresses.clone(),
                ready: service
                    .endpoints
                    .iter()
                    .filter(|endpoint| endpoint.ready())
                    .count(),
            })
            .collect(),
    }
}

fn deployment(state: &State, key: &Key) -> DeploymentInfo {
    let spec = &state.desired.deployments[key];
    let hash = spec
        .template
        .hash(state.restarts.get(key).copied().unwrap_or(0));
    let owned: Vec<&PodState> = state
        .pods
        .values()
        .filter(|pod| {
            pod.order
                .owner
                .as_ref()
                .is_some_and(|(owner, _)| owner == key)
        })
        .collect();
    let live = owned.iter().filter(|pod| pod.deleting.is_none());
    DeploymentInfo {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        replicas: spec.replicas,
        updated: live
            .clone()
            .filter(|pod| pod.order.owner.as_ref().is_some_and(|(_, of)| *of == hash))
            .count(),
        ready: live.filter(|pod| pod.ready()).count(),
        pods: owned.len(),
    }
}

fn pod(pod: &PodState) -> PodInfo {
    let order = &pod.order;
    PodInfo {
        namespace: order.key.namespace.clone(),
        name: order.key.name.clone(),
        uid: order.uid.clone(),
        deployment: order.owner.as_ref().map(|(key, _)| key.name.clone()),
        labels: order.template.labels.clone(),
        ips: order.addresses.both().to_vec(),
        meshed: order.meshed,
        ready: pod.ready(),
        terminating: pod.deleting.is_some(),
        sandbox_pid: pod.sandbox,
        containers: pod
            .containers
            .iter()
            .map(|(name, container)| {
                let info = ContainerInfo {
                    pid: container.pid,
                    ready: container.ready,
                    restarts: container.restarts,
                };
                (name.clone(), info)
            })
            .collect(),
        error: pod.error.clone(),
    }
}
