//! One hop, many clients: what one of them does the others do not notice.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use weft_proxy_config::TrafficPolicy;

use super::app::{AnyBody, App, Client, Wire, empty, full, text};
use super::forwarding::pair;
use super::mesh::{Pod, endpoint, run};
use crate::http2_client::Http2Conn;

/// An HTTP/2 client that can do what hyper's does not.
async fn h2_client(pod: &Pod) -> h2::client::SendRequest<Bytes> {
    h2_client_on_a_leash(pod).await.0
}

/// One whose connection can be cut.
async fn h2_client_on_a_leash(pod: &Pod) -> (h2::client::SendRequest<Bytes>, AbortHandle) {
    let socket = TcpStream::connect(pod.listener).await.unwrap();
    let (send, connection) = h2::client::Builder::new()
        .initial_max_send_streams(256)
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 30)
        .handshake(socket)
        .await
        .unwrap();
    let driving = tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    (send.ready().await.unwrap(), driving.abort_handle())
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://web.shop{path}"))
        .body(())
        .unwrap()
}

/// An application with `/hang`, `/flood` and anything else; counts how many hang and how many of those were let go.
async fn app() -> (App, Rc<Cell<usize>>) {
    struct Hanging(Rc<Cell<usize>>);
    impl Drop for Hanging {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    let hanging: Rc<Cell<usize>> = Rc::default();
    let count = hanging.clone();
    let app = App::start(move |request| {
        let path = request.uri().path().to_owned();
        let hang = (path == "/hang").then(|| {
            count.set(count.get() + 1);
            Hanging(count.clone())
        });
        async move {
            if let Some(_hang) = hang {
                std::future::pending::<()>().await;
            }
            match path.as_str() {
                "/flood" => Response::new(flood()),
                _ => text("fine"),
            }
        }
    })
    .await;
    (app, hanging)
}

/// Without end.
fn flood() -> AnyBody {
    let chunk = Bytes::from(vec![b'x'; 16 * 1024]);
    let frames = futures_util::stream::repeat_with(move || Ok(Frame::data(chunk.clone())));
    StreamBody::new(frames).boxed_unsync()
}

async fn until(what: &str, fact: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !fact() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}");
}

#[test]
fn a_client_that_leaves_with_256_open_streams_takes_nobody_along() {
    run(async {
        let (app, hanging) = app().await;
        let (client, _server) = pair(&app).await;
        let mut neighbour = Client::connect(client.listener, Version::HTTP_11).await;
        assert_eq!(neighbour.get("/").await.0, 200);
        let hops = client.server.0.pool.http2_connections();
        for round in 0..4 {
            let (mut leaving, leash) = h2_client_on_a_leash(&client).await;
            let mut open = Vec::new();
            for _ in 0..250 {
                open.push(leaving.send_request(get("/hang"), true).unwrap());
            }
            until("all hang", || hanging.get() == 250).await;
            assert_eq!(neighbour.get("/").await.0, 200);
            if round % 2 == 0 {
                // Resets of all streams, then goodbye.
                drop((open, leaving));
            } else {
                leash.abort();
            }
            until("the application has let go of all", || hanging.get() == 0).await;
            assert_eq!(neighbour.get("/").await.0, 200);
        }
        assert!(
            !hops[0].is_retired(),
            "the hop that carried all of it still stands"
        );
    });
}

#[test]
fn a_reader_that_stalls_holds_up_only_itself() {
    run(async {
        let (app, _) = app().await;
        let (client, _server) = pair(&app).await;
        let mut stalled = h2_client(&client).await;
        let mut unread = Vec::new();
        for _ in 0..20 {
            let (answer, _) = stalled.send_request(get("/flood"), true).unwrap();
            // The head is read, the body never.
            unread.push(answer.await.unwrap());
        }
        let mut neighbour = Client::connect(client.listener, Version::HTTP_11).await;
        for _ in 0..50 {
            assert_eq!(neighbour.get("/").await.0, 200);
        }
        // What has carried much before it stalled may have a hop to itself; these stay few.
        assert!(client.server.0.pool.http2_connections().len() <= 5);
    });
}

#[test]
fn an_endless_upload_holds_up_only_itself() {
    run(async {
        let app = App::start(|request| async move {
            if request.uri().path() == "/never-read" {
                std::future::pending::<()>().await;
            }
            text("fine")
        })
        .await;
        let (client, _server) = pair(&app).await;
        let mut uploading = Client::connect(client.listener, Version::HTTP_2).await;
        let request = uploading.request("POST", "/never-read", flood());
        let upload =
            tokio::task::spawn_local(async move { uploading.send(request).await.map(|_| ()) });
        let mut neighbour = Client::connect(client.listener, Version::HTTP_11).await;
        until("the upload is there", || app.requests.get() > 0).await;
        for _ in 0..50 {
            assert_eq!(neighbour.get("/").await.0, 200);
        }
        upload.abort();
    });
}

#[test]
fn at_the_stream_limit_another_hop_opens() {
    run(async {
        let (app, hanging) = app().await;
        let (client, _server) = pair(&app).await;
        let mut clients = Vec::new();
        for many in 1..=3 {
            let mut one = h2_client(&client).await;
            let open: Vec<_> = (0..120)
                .map(|_| one.send_request(get("/hang"), true).unwrap())
                .collect();
            clients.push((one, open));
            until("all hang", || hanging.get() == many * 120).await;
        }
        let hops = client.server.0.pool.http2_connections();
        assert_eq!(hops.len(), 2);
        assert_eq!(hops.iter().map(|hop| hop.streams()).sum::<usize>(), 360);
        let mut neighbour = Client::connect(client.listener, Version::HTTP_11).await;
        assert_eq!(neighbour.get("/").await.0, 200);
    });
}

#[test]
fn a_chatty_stream_that_nobody_reads_does_not_end_a_hop() {
    run(async {
        let (app, hanging) = app().await;
        let (client, _server) = pair(&app).await;
        let mut neighbour = Client::connect(client.listener, Version::HTTP_11).await;
        let mut chatting = h2_client(&client).await;
        let mut open = Vec::new();
        for stream in 1..=4 {
            let request = Request::post("http://web.shop/hang").body(()).unwrap();
            let (answer, mut sending) = chatting.send_request(request, false).unwrap();
            until("it hangs", || hanging.get() == stream).await;
            for _ in 0..30_000 {
                sending.reserve_capacity(1);
                while sending.capacity() == 0 {
                    poll_fn(|cx| sending.poll_capacity(cx))
                        .await
                        .unwrap()
                        .unwrap();
                }
                sending.send_data(Bytes::from_static(b"x"), false).unwrap();
            }
            open.push((answer, sending));
            assert_eq!(neighbour.get("/").await.0, 200);
        }
        let hops = client.server.0.pool.http2_connections();
        assert_eq!(hops.len(), 1);
        assert!(!hops[0].is_retired());
    });
}

#[test]
fn a_client_that_only_resets_is_sent_away_at_the_edge() {
    run(async {
        let (app, _) = app().await;
        let (client, _server) = pair(&app).await;
        let mut neighbour = Client::connect(client.listener, Version::HTTP_11).await;
        assert_eq!(neighbour.get("/").await.0, 200);
        let hop = client.server.0.pool.http2_connections().remove(0);
        let mut resetting = h2_client(&client).await;
        let refused = loop {
            let Ok(ready) = resetting.clone().ready().await else {
                break true;
            };
            resetting = ready;
            let Ok((answer, stream)) = resetting.send_request(get("/hang"), true) else {
                break true;
            };
            // Give the request time to be taken before it is reset.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            drop((answer, stream));
        };
        assert!(refused);
        assert_eq!(neighbour.get("/").await.0, 200);
        assert!(!hop.is_retired(), "the hop does not pay for it");
    });
}

#[test]
fn a_dead_hop_is_replaced_at_once() {
    run(async {
        let (app, _) = app().await;
        let (client, server) = pair(&app).await;
        let wire = Wire::to(server.listener).await;
        client.declare(
            [endpoint(wire.address, Some(server.id.clone()))],
            TrafficPolicy::default(),
            |_| None,
        );
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        for _ in 0..5 {
            let request = calling.request("POST", "/", full("x"));
            assert_eq!(calling.send(request).await.unwrap().status(), 200);
            let hop = client.server.0.pool.http2_connections().remove(0);
            wire.cut();
            until("its end is noticed", || hop.is_retired()).await;
        }
    });
}

#[test]
fn a_client_that_leaves_ends_its_request_everywhere() {
    run(async {
        let (app, hanging) = app().await;
        let (client, _server) = pair(&app).await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut leaving = Client::connect(client.listener, version).await;
            let request = leaving.request("GET", "/hang", empty());
            let waiting = tokio::task::spawn_local(async move {
                let answer = leaving.send(request).await;
                drop(leaving);
                answer.map(|_| ())
            });
            until("it hangs", || hanging.get() == 1).await;
            waiting.abort();
            until("the application has let go", || hanging.get() == 0).await;
        }
    });
}

#[test]
fn a_request_and_its_answer_may_stream_both_ways_at_once() {
    run(async {
        let app = App::start(|request| async move {
            Response::new(
                request
                    .into_body()
                    .map_err(|_| unreachable!())
                    .boxed_unsync(),
            )
        })
        .await;
        let (client, _server) = pair(&app).await;
        let mut calling = h2_client(&client).await;
        let (answer, mut sending) = calling
            .send_request(Request::post("http://web.shop/").body(()).unwrap(), false)
            .unwrap();
        let mut receiving = answer.await.unwrap().into_body();
        for word in ["one", "two", "three"] {
            sending.send_data(Bytes::from(word), false).unwrap();
            assert_eq!(receiving.data().await.unwrap().unwrap(), word);
        }
        sending.send_data(Bytes::new(), true).unwrap();
        while let Some(rest) = receiving.data().await {
            assert!(rest.unwrap().is_empty());
        }
    });
}

#[test]
fn what_begins_after_a_stream_turned_out_long_is_not_behind_it() {
    run(async {
        let (app, hanging) = app().await;
        let (client, _server) = pair(&app).await;
        let mut reading = h2_client(&client).await;
        let (answer, _) = reading.send_request(get("/flood"), true).unwrap();
        let mut flood = answer.await.unwrap().into_body();
        let mut read = 0;
        while read <= 1 << 20 {
            let bytes = flood.data().await.unwrap().unwrap();
            read += bytes.len();
            flood.flow_control().release_capacity(bytes.len()).unwrap();
        }
        let first = client.server.0.pool.http2_connections().remove(0);
        assert!(first.is_held_up());
        let mut later = h2_client(&client).await;
        let open: Vec<_> = (0..10)
            .map(|_| later.send_request(get("/hang"), true).unwrap())
            .collect();
        until("all hang", || hanging.get() == 10).await;
        let hops = client.server.0.pool.http2_connections();
        let streams: Vec<_> = hops.iter().map(Http2Conn::streams).collect();
        assert_eq!(streams, [1, 10]);
        // The long one ends: its hop takes others again.
        drop((flood, open));
        until("it has ended", || !first.is_held_up()).await;
        let mut neighbour = Client::connect(client.listener, Version::HTTP_11).await;
        assert_eq!(neighbour.get("/").await.0, 200);
        assert_eq!(client.server.0.pool.http2_connections().len(), 2);
    });
}

#[test]
fn an_upload_that_turns_out_long_keeps_its_hop_to_itself_and_hops_stay_few() {
    run(async {
        let app = App::start(|request| async move {
            let mut body = request.into_body();
            while let Some(Ok(_)) = body.frame().await {}
            text("read")
        })
        .await;
        let (client, _server) = pair(&app).await;
        let mut uploads = Vec::new();
        for many in 1..=6 {
            let mut uploading = Client::connect(client.listener, Version::HTTP_2).await;
            let request = uploading.request("POST", "/", flood());
            let upload = async move { uploading.send(request).await.map(|_| ()) };
            uploads.push(tokio::task::spawn_local(upload));
            let pool = &client.server.0.pool;
            let held_up = || {
                pool.http2_connections()
                    .iter()
                    .filter(|hop| hop.is_held_up())
                    .count()
            };
            let all = || {
                pool.http2_connections()
                    .iter()
                    .map(Http2Conn::streams)
                    .sum::<usize>()
            };
            until("it turns out long", || {
                held_up() == many.min(4) && all() == many
            })
            .await;
        }
        assert_eq!(client.server.0.pool.http2_connections().len(), 4);
        for upload in uploads {
            upload.abort();
        }
    });
}
