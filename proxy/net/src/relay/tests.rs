use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const IDLE: Duration = Duration::from_secs(60);

/// A relay between two ends; its outcome when it has ended.
async fn relayed<T>(
    buffer: usize,
    greeting: &[u8],
    test: impl AsyncFnOnce(DuplexStream, DuplexStream) -> T,
) -> (End, Carried, T) {
    let scratch = Scratch::new();
    let (client, mut client_side) = duplex(buffer);
    let (server, mut server_side) = duplex(buffer);
    let mut relay = Relay::new(&scratch, IDLE, greeting.to_vec());
    let (end, outcome) = tokio::join!(
        relay.run(&mut client_side, &mut server_side),
        test(client, server)
    );
    (end, relay.carried(), outcome)
}

#[tokio::test]
async fn each_half_ends_on_its_own() {
    let (end, carried, ()) = relayed(64, b"", async |mut client, mut server| {
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        server.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "question");
        server.write_all(b"the answer").await.unwrap();
        server.shutdown().await.unwrap();
        heard.clear();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "the answer");
    })
    .await;
    assert!(matches!(end, End::Finished));
    assert_eq!(carried, Carried { up: 8, down: 10 });
}

#[tokio::test]
async fn what_a_slow_reader_has_not_taken_is_kept_and_nothing_more_is_read() {
    let (_, carried, ()) = relayed(16, b"", async |mut client, mut server| {
        let sent: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        let send = async {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let take = async {
            let mut heard = Vec::new();
            let mut part = [0; 7];
            loop {
                let n = server.read(&mut part).await.unwrap();
                if n == 0 {
                    break;
                }
                heard.extend_from_slice(&part[..n]);
                tokio::task::yield_now().await;
            }
            heard
        };
        let ((), heard) = tokio::join!(send, take);
        assert_eq!(heard, sent);
        server.shutdown().await.unwrap();
    })
    .await;
    assert_eq!(carried.up, 100_000);
}

#[tokio::test]
async fn a_greeting_comes_first() {
    let (_, carried, ()) = relayed(64, b"hello ", async |mut client, mut server| {
        server.write_all(b"world").await.unwrap();
        server.shutdown().await.unwrap();
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "hello world");
        client.shutdown().await.unwrap();
    })
    .await;
    assert_eq!(carried, Carried { up: 0, down: 11 });
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_and_a_busy_one_does_not() {
    let begin = Instant::now();
    let (end, _, _ends) = relayed(64, b"", async |mut client, server| {
        for _ in 0..10 {
            tokio::time::sleep(IDLE / 2).await;
            client.write_all(b".").await.unwrap();
        }
        (client, server)
    })
    .await;
    assert!(matches!(end, End::Idle));
    assert_eq!(begin.elapsed(), IDLE / 2 * 10 + IDLE);
}
