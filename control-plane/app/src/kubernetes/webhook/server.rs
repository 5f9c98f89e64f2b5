//! HTTPS for the webhook: bounded in connections, time and bytes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::certificate::{Current, Serving};
use super::review::{Injector, Matched};

/// Connections at once; further callers wait in the backlog.
const CONNECTIONS: usize = 128;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// For a request's head, and between requests: longer than the API server keeps an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// For a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// After an error of accept (mostly: no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The API server takes no object of more than 3 MiB.
const LARGEST_BODY: usize = 4 * 1024 * 1024;

/// Serves until `stop`, then lets open requests finish.
///
/// # Errors
/// TLS cannot be set up.
pub async fn serve(
    listener: TcpListener,
    serving: Serving,
    injector: Arc<Injector>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(serving)?));
    let routes = routes(injector);
    let (leaving, left) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let (acceptor, routes) = (acceptor.clone(), routes.clone());
                    connections.spawn(connection(stream, acceptor, routes, left.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the webhook cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    leaving.send_replace(true);
    while connections.join_next().await.is_some() {}
    Ok(())
}

fn tls(serving: Serving) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS for the webhook")?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Current(serving)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    routes: Router,
    mut left: watch::Receiver<bool>,
) {
    let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a caller of the webhook failed in TLS"),
        Err(_) => return,
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    let told_to_leave = async {
        // An error is as good: nobody is there any more who could tell.
        let _ = left.wait_for(|left| *left).await;
    };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = told_to_leave => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the webhook ended early");
    }
}

fn routes(injector: Arc<Injector>) -> Router {
    Router::new()
        .route("/inject/namespace", post(by_namespace))
        .route("/inject/pod", post(by_pod))
        .with_state(injector)
}

async fn by_namespace(injector: State<Arc<Injector>>, request: Request) -> Response {
    review(&injector, Matched::Namespace, request).await
}

async fn by_pod(injector: State<Arc<Injector>>, request: Request) -> Response {
    review(&injector, Matched::Pod, request).await
}

async fn review(injector: &Injector, matched: Matched, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if !is_json(&head.headers) {
        let text = "the content type must be application/json\n";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
    }
    let body: Bytes = match timeout(BODY_TIMEOUT, axum::body::to_bytes(body, LARGEST_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let text = format!("the body cannot be read, or is larger than {LARGEST_BODY} bytes\n");
            return (StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
        }
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    match injector.answer(matched, &body) {
        Ok(answer) => axum::Json(answer).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    let text = content_type.and_then(|value| value.to_str().ok());
    text.is_some_and(|text| {
        let essence = text.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    })
}
