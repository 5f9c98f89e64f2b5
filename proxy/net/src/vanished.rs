//! Finding out who is gone without a word: a machine without power, a network that is no more. The kernel asks.
//!
//! Two questions, because neither finds everybody. *Keepalive* asks an end from which nothing is awaited: whoever runs
//! answers, however long its application is silent, so that no long poll is cut. It does not ask while bytes are on
//! their way; those the kernel sends again for about a quarter of an hour, after which they failed. On a hop that
//! carries HTTP/2, `TCP_USER_TIMEOUT` makes that as short as keepalive is: its other end is a proxy, which always reads.
//! Elsewhere it would also end a reader that lives and takes a rest, so it is not set there.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// After so much silence the kernel asks for the first time.
pub const ASK_AFTER: Duration = Duration::from_secs(60);
/// It asks so often…
const QUESTIONS: u32 = 3;

/// …at this pace: half as much again as the silence before, in all.
fn pace(after: Duration) -> Duration {
    // Whole seconds are what the kernel takes.
    Duration::from_secs((after.as_secs() / 6).max(1))
}

/// Has silent ends asked. What a listener is told holds for all that it accepts.
pub(crate) fn keep_alive<'s>(socket: impl Into<SockRef<'s>>, after: Duration) {
    let keepalive = TcpKeepalive::new()
        .with_time(after)
        .with_interval(pace(after))
        .with_retries(QUESTIONS);
    // A socket that is gone already is found out by the next read.
    let _ = socket.into().set_tcp_keepalive(&keepalive);
}

/// Bounds how long bytes may stay without an answer, on a connection whose other end always reads.
pub(crate) fn always_reads<'s>(socket: impl Into<SockRef<'s>>, after: Duration) {
    let limit = after + QUESTIONS * pace(after);
    let _ = socket.into().set_tcp_user_timeout(Some(limit));
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_a_listener_is_told_holds_for_what_it_accepts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        keep_alive(&listener, ASK_AFTER);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        always_reads(&accepted, ASK_AFTER);
        let accepted = SockRef::from(&accepted);
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), ASK_AFTER);
        let pace = Duration::from_secs(10);
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), pace);
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), 3);
        let limit = Duration::from_secs(90);
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(limit));
    }
}
