//! Serving, draining, closed, ended: what still works in each.

use super::*;
use crate::Phase;

#[tokio::test]
async fn accepting_goes_on_while_draining_and_open_connections_outlive_closing() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut proxy = mesh.proxy("web", 2);
        proxy.takes(MtlsMode::Permissive);
        let pod = proxy.before(shouting_app(2).await);
        proxy.start();
        let leaving = proxy.proxy.leaving.clone();
        leaving.advance(Phase::Draining);
        assert_eq!(say(pod, b"\x00still\n").await, "\0STILL\n");
        let mut open = dial(pod).await;
        open.write_all(b"\x00begun").await.unwrap();
        while leaving.open_connections() == 0 {
            tokio::task::yield_now().await;
        }
        leaving.advance(Phase::Closed);
        while TcpStream::connect(pod).await.is_ok() {
            tokio::task::yield_now().await;
        }
        open.shutdown().await.unwrap();
        assert_eq!(hear_out(open).await, "\0BEGUN");
        leaving.emptied().await;
    })
    .await;
}

#[tokio::test]
async fn what_has_not_finished_is_cut_in_the_end() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut proxy = mesh.proxy("web", 2);
        proxy.takes(MtlsMode::Permissive);
        let pod = proxy.before(greeting_app(2).await);
        proxy.start();
        let mut open = dial(pod).await;
        let mut greeting = [0; 10];
        open.read_exact(&mut greeting).await.unwrap();
        let leaving = proxy.proxy.leaving.clone();
        leaving.advance(Phase::Closed);
        leaving.advance(Phase::Ended);
        leaving.emptied().await;
        assert_eq!(hear_out(open).await, "");
    })
    .await;
}

#[tokio::test]
async fn over_the_limit_connections_are_closed_at_once() {
    in_one_thread(async {
        let leaving = Leaving::new();
        let listener = Listener::bind(SocketAddr::new(ip(6), 0), Role::Inbound).unwrap();
        let address = listener.address().unwrap();
        let (acceptors, mut workers) = seats(vec![listener], 2, &leaving, 3);
        tokio::task::spawn_local(acceptors.run());
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(dial(address).await);
        }
        assert_eq!(hear_out(dial(address).await).await, "");
        // Spread over both workers.
        let first = workers.remove(0).accepted.len();
        assert!((1..=2).contains(&first), "{first}");
    })
    .await;
}

#[tokio::test]
async fn hops_go_on_serving_those_who_are_still_served() {
    in_one_thread(async {
        let leaving = Leaving::new();
        let (accepted, dialled) = (leaving.drain(), leaving.hop_drain());
        leaving.advance(Phase::Draining);
        assert!(accepted.is_draining() && !dialled.is_draining());
        accepted.draining().await;
        leaving.advance(Phase::Closed);
        assert!(!dialled.is_draining());
        leaving.advance(Phase::Ended);
        dialled.draining().await;
        dialled.ended().await;
    })
    .await;
}
