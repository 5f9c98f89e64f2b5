use crate::tests::{HandedOn, Mesh};

use super::*;

/// Every open connection holds one of these: it must not grow unnoticed. The request path's own
/// future comes on top.
#[tokio::test]
async fn a_connections_future_stays_small() {
    let proxy = Mesh::new().proxy("web", 2).proxy;
    let (own_hops, _) = mpsc::unbounded_channel();
    let worker = Worker::new(proxy, own_hops, |_| HandedOn::default()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).await;
    let peer = listener.local_addr().unwrap();
    let mut record = ConnectionRecord::new(Direction::Inbound, peer);
    let inbound = size_of_val(&worker.inbound(socket.unwrap(), peer, &Role::Inbound, &mut record));
    let socket = TcpStream::connect(listener.local_addr().unwrap()).await;
    let outbound =
        size_of_val(&worker.outbound(socket.unwrap(), peer, &Role::Outbound, &mut record));
    assert!(inbound <= 4608, "{inbound}");
    assert!(outbound <= 3072, "{outbound}");
}
