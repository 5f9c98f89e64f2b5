//! Requests and answers as they come out at the other end.

use http::Version;
use weft_proxy_config::TrafficPolicy;

use super::app::{App, Client};
use super::mesh::{Mesh, run};

#[test]
fn the_application_gets_what_its_client_spoke_over_one_http2_hop() {
    run(async {
        let (mesh, app) = (Mesh::new(), App::echo().await);
        let server = mesh.server(app.address).await;
        let client = mesh.client().await;
        client.declare([server.endpoint()], TrafficPolicy::default(), |_| None);
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut calling = Client::connect(client.listener, version).await;
            for _ in 0..3 {
                let (status, text) = calling.get("/a?b=c").await;
                assert_eq!((status, text), (200, format!("{version:?} GET /a")));
            }
        }
        assert_eq!(client.server.0.pool.http2_connections().len(), 1, "one hop carries both");
        assert_eq!(app.connections.get(), 2, "one connection per version is kept");
    });
}
