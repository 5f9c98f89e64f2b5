//! Applications and clients for tests: hyper at both ends, HTTP/1.1 or HTTP/2 with prior knowledge.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

pub(crate) type AnyBody = UnsyncBoxBody<Bytes, Infallible>;
type Answering = Pin<Box<dyn Future<Output = Response<AnyBody>>>>;

/// Runs futures on the test's `LocalSet`.
#[derive(Clone)]
pub(crate) struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// An application that answers with a closure. Ends when dropped.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    /// Connections so far.
    pub(crate) connections: Rc<Cell<usize>>,
    /// Requests so far.
    pub(crate) requests: Rc<Cell<usize>>,
    tasks: Rc<RefCell<Vec<AbortHandle>>>,
}

impl Drop for App {
    fn drop(&mut self) {
        for task in self.tasks.borrow_mut().drain(..) {
            task.abort();
        }
    }
}

impl App {
    pub(crate) async fn start<F, Fut>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + 'static,
        Fut: Future<Output = Response<AnyBody>> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let tasks: Rc<RefCell<Vec<AbortHandle>>> = Rc::default();
        let counted = requests.clone();
        let answer: Rc<dyn Fn(Request<Incoming>) -> Answering> = Rc::new(move |request| {
            counted.set(counted.get() + 1);
            Box::pin(answer(request))
        });
        let (count, list) = (connections.clone(), tasks.clone());
        let accepting = tokio::task::spawn_local(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                count.set(count.get() + 1);
                let serving = tokio::task::spawn_local(serve(socket, answer.clone()));
                list.borrow_mut().push(serving.abort_handle());
            }
        });
        tasks.borrow_mut().push(accepting.abort_handle());
        Self {
            address,
            connections,
            requests,
            tasks,
        }
    }

    /// One that says which HTTP version, method and path it got.
    pub(crate) async fn echo() -> Self {
        Self::start(|request| async move {
            let line = format!(
                "{:?} {} {}",
                request.version(),
                request.method(),
                request.uri().path()
            );
            text(&line)
        })
        .await
    }
}

async fn serve(socket: TcpStream, answer: Rc<dyn Fn(Request<Incoming>) -> Answering>) {
    socket.set_nodelay(true).unwrap();
    let mut first = [0; 3];
    while socket.peek(&mut first).await.is_ok_and(|n| n > 0 && n < 3) {
        tokio::task::yield_now().await;
    }
    let service = service_fn(move |request| {
        let answering = answer(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let io = TokioIo::new(socket);
    if &first == b"PRI" {
        let _ = hyper::server::conn::http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .max_concurrent_streams(1000)
            .serve_connection(io, service)
            .await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(io, service)
            .with_upgrades()
            .await;
    }
}

pub(crate) fn text(text: &str) -> Response<AnyBody> {
    Response::new(full(text.to_owned()))
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into()).boxed_unsync()
}

pub(crate) fn empty() -> AnyBody {
    Empty::new().boxed_unsync()
}

/// A client's connection. HTTP/2 ones are shared by their clones.
pub(crate) enum Client {
    Http1(hyper::client::conn::http1::SendRequest<AnyBody>),
    Http2(hyper::client::conn::http2::SendRequest<AnyBody>),
}

impl Client {
    pub(crate) async fn connect(to: SocketAddr, version: Version) -> Self {
        let socket = TcpStream::connect(to).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let io = TokioIo::new(socket);
        if version == Version::HTTP_2 {
            let (send, conn) = hyper::client::conn::http2::handshake(Local, io)
                .await
                .unwrap();
            tokio::task::spawn_local(conn);
            Self::Http2(send)
        } else {
            let (send, conn) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::task::spawn_local(conn.with_upgrades());
            Self::Http1(send)
        }
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<AnyBody>,
    ) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(send) => {
                send.ready().await?;
                send.send_request(request).await
            }
            Self::Http2(send) => send.clone().send_request(request).await,
        }
    }

    /// GETs a path; status and text of the answer.
    pub(crate) async fn get(&mut self, path: &str) -> (u16, String) {
        let response = self.send(self.request("GET", path, empty())).await.unwrap();
        let status = response.status().as_u16();
        (status, body(response).await)
    }

    /// A request in the form of this client's version.
    pub(crate) fn request(&self, method: &str, path: &str, body: AnyBody) -> Request<AnyBody> {
        let request = Request::builder().method(method);
        match self {
            Self::Http1(_) => request.uri(path).header("host", "web.shop"),
            Self::Http2(_) => request.uri(format!("http://web.shop{path}")),
        }
        .body(body)
        .unwrap()
    }
}

pub(crate) async fn body(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A wire that can be cut.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    tasks: Rc<RefCell<Vec<AbortHandle>>>,
}

impl Wire {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks: Rc<RefCell<Vec<AbortHandle>>> = Rc::default();
        let open = tasks.clone();
        tokio::task::spawn_local(async move {
            loop {
                let (mut from, _) = listener.accept().await.unwrap();
                let mut to = TcpStream::connect(target).await.unwrap();
                let copying = tokio::task::spawn_local(async move {
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
                open.borrow_mut().push(copying.abort_handle());
            }
        });
        Self { address, tasks }
    }

    /// Cuts what is connected now, without goodbye.
    pub(crate) fn cut(&self) {
        for task in self.tasks.borrow_mut().drain(..) {
            task.abort();
        }
    }
}
