//! Timers on a stopped clock, over byte streams inside the process.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::LocalSet;
use tokio::time::Instant;
use weft_proxy_net::{Hop, Io, Leaving, Phase};

use crate::body::Body;
use crate::exchange::Tracked;
use crate::http1::Http1Conn;
use crate::http1_server;
use crate::http2_client::Http2Conn;
use crate::http2_server::Answer;
use crate::sent::SendError;
use crate::shelf::Shelf;
use crate::tasks::Tasks;

fn stopped(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn hop() -> (Hop, DuplexStream) {
    let (ours, theirs) = duplex(64 * 1024);
    let hop = Hop {
        io: Io::Memory(ours),
        identity: None,
        drain: Leaving::new().drain(),
    };
    (hop, theirs)
}

fn request() -> Option<Request<Body>> {
    Some(Request::get("http://a/").body(Body::empty()).unwrap())
}

#[test]
fn a_peer_that_falls_silent_under_a_request_is_given_up() {
    stopped(async {
        let (hop, theirs) = hop();
        let tasks = Tasks::default();
        let silent = async {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            let taken = connection.accept().await.unwrap().unwrap();
            // Polled no more: no answer, no pong.
            std::future::pending::<()>().await;
            drop(taken);
        };
        let asking = async {
            let conn = Http2Conn::open(hop, None, &tasks).await.unwrap();
            let began = Instant::now();
            assert_eq!(
                conn.send(&mut request()).await.unwrap_err(),
                SendError::Reset
            );
            let waited = began.elapsed().as_secs();
            assert!((15..=25).contains(&waited), "{waited}");
            assert!(conn.is_retired());
        };
        tokio::select! {
            () = silent => {}
            () = asking => {}
        }
    });
}

#[test]
fn an_http1_connection_retires_before_its_peer_closes_it() {
    stopped(async {
        for (header, keeps) in [("", 3), ("keep-alive: timeout=2\r\n", 0)] {
            let (hop, mut theirs) = hop();
            let shelf = std::rc::Rc::new(Shelf::default());
            let answering = async {
                let mut head = vec![0; 1024];
                assert!(theirs.read(&mut head).await.unwrap() > 0);
                let answer = format!("HTTP/1.1 200 OK\r\n{header}content-length: 2\r\n\r\nok");
                theirs.write_all(answer.as_bytes()).await.unwrap();
            };
            let asking = async {
                let conn = Http1Conn::open(hop, None, Duration::from_millis(3500))
                    .await
                    .unwrap();
                let answer = Box::new(conn)
                    .send(&mut request(), None, &shelf)
                    .await
                    .unwrap();
                assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
            };
            tokio::join!(answering, asking);
            assert!(!shelf.is_empty());
            tokio::time::sleep(Duration::from_secs(keeps)).await;
            let taken = shelf.take(None).await;
            assert!(taken.is_some(), "{header}");
            drop(taken);
        }
        let (hop, mut theirs) = hop();
        let shelf = std::rc::Rc::new(Shelf::default());
        let conn = Http1Conn::open(hop, None, Duration::from_millis(3500))
            .await
            .unwrap();
        let asking = async {
            let answer = Box::new(conn)
                .send(&mut request(), None, &shelf)
                .await
                .unwrap();
            answer.into_body().collect().await.unwrap();
        };
        let answering = async {
            let mut head = vec![0; 1024];
            assert!(theirs.read(&mut head).await.unwrap() > 0);
            theirs
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .await
                .unwrap();
        };
        tokio::join!(asking, answering);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(shelf.take(None).await.is_none(), "rested too long");
        assert_eq!(theirs.read(&mut [0; 1]).await.unwrap(), 0, "and was closed");
    });
}

/// Serves HTTP/1 on one end of a stream inside the process; every request is answered after `takes`.
async fn serve(io: DuplexStream, leaving: &Leaving, takes: Duration) {
    let drain = leaving.drain();
    let served = http1_server::serve(Io::Memory(io), &drain, |_| async move {
        tokio::time::sleep(takes).await;
        Answer::Response(Response::new(Tracked::from(Body::full(
            Bytes::from_static(b"ok"),
        ))))
    });
    let _ = served.await;
}

#[test]
fn a_head_that_dribbles_is_cut_off_and_a_slow_answer_is_not() {
    stopped(async {
        let leaving = Leaving::new();
        let (mut client, server) = duplex(1024);
        let dribbling = async {
            let began = Instant::now();
            for byte in b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: 0123456789"
                .iter()
                .cycle()
            {
                if client.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            assert!(
                (30..=50).contains(&began.elapsed().as_secs()),
                "{:?}",
                began.elapsed()
            );
        };
        tokio::join!(dribbling, serve(server, &leaving, Duration::ZERO));

        let (mut client, server) = duplex(1024);
        let slow = async {
            let mut answer = Vec::new();
            client
                .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            client.read_to_end(&mut answer).await.unwrap();
            assert!(answer.ends_with(b"ok"));
        };
        tokio::join!(slow, serve(server, &leaving, Duration::from_secs(7200)));
    });
}

#[test]
fn a_resting_connection_is_closed_some_time_after_goodbye() {
    stopped(async {
        let leaving = Leaving::new();
        let (mut client, server) = duplex(1024);
        let resting = async {
            let mut answer = vec![0; 1024];
            client
                .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                .await
                .unwrap();
            assert!(client.read(&mut answer).await.unwrap() > 0);
            let began = Instant::now();
            leaving.advance(Phase::Draining);
            while client.read(&mut answer).await.unwrap() > 0 {}
            assert_eq!(began.elapsed().as_secs(), 5);
        };
        tokio::join!(resting, serve(server, &leaving, Duration::ZERO));
    });
}
