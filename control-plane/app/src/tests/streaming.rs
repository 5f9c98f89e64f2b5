//! From a file to a subscribed proxy and back.

use tonic::Code;
use weft_proto::mesh;
use weft_xds::Kind;

use super::harness::{OBJECTS, Running, body};

const SERVICE: &str = "shop/web?from=shop";

#[tokio::test]
async fn a_stream_needs_a_certificate_and_a_claim_that_holds() {
    let running = Running::start(OBJECTS).await;
    let stranger = running.client();
    let refused = stranger
        .stream("shop/web-1", Kind::MeshConfig, &["default"])
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);

    let client = running.joined().await;
    for (pod, code, word) in [
        ("shop/nobody", Code::PermissionDenied, "no pod shop/nobody"),
        ("shop/elsewhere", Code::PermissionDenied, "shop/elsewhere"),
        ("bank/web-1", Code::PermissionDenied, "namespace shop"),
        ("web-1", Code::InvalidArgument, "NAMESPACE/POD"),
    ] {
        let mut stream = client
            .stream(pod, Kind::MeshConfig, &["default"])
            .await
            .unwrap();
        let refused = stream.response().await.unwrap_err();
        assert_eq!(refused.code(), code, "{pod}");
        assert!(refused.message().contains(word), "{refused}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_proxy_gets_what_is_its_own_and_nothing_else() {
    let running = Running::start(OBJECTS).await;
    let client = running.joined().await;
    let mut proxy = client
        .stream("shop/web-1", Kind::Inbound, &["shop/web-1"])
        .await
        .unwrap();
    let inbound: mesh::Inbound = proxy.accepted().await.unwrap();
    assert_eq!(inbound.service_account, "web");

    for (kind, name) in [
        (Kind::Inbound, "shop/elsewhere"),
        (Kind::Service, "shop/web?from=bank"),
        (Kind::Authorization, "shop/any"),
        (Kind::Address, "10.96.0.99:80"),
    ] {
        proxy.subscribe(kind, &[name]).await;
        let response = proxy.response().await.unwrap();
        proxy.accept(&response).await;
        assert_eq!(response.resources[0].name, name);
        assert_eq!(response.resources[0].resource, None, "{name}");
    }

    proxy.subscribe(Kind::Address, &["10.96.0.5:80"]).await;
    let address: mesh::Address = proxy.accepted().await.unwrap();
    assert!(matches!(
        address.target,
        Some(mesh::address::Target::Service(_))
    ));
    running.stop().await;
}

#[tokio::test]
async fn an_edit_reaches_a_subscriber_and_is_confirmed() {
    let running = Running::start(OBJECTS).await;
    let client = running.joined().await;
    let mut proxy = client
        .stream("shop/web-1", Kind::Service, &[SERVICE])
        .await
        .unwrap();
    let service: mesh::Service = proxy.accepted().await.unwrap();
    assert_eq!(service.ports[0].port, 80);

    // Asked right after the edit: what counts is what is written now.
    running.write("objects.yaml", &OBJECTS.replace("port: 80,", "port: 81,"));
    let wait = "/v1/wait?kind=service&namespace=shop&name=web&timeout=";
    let answer = running.json(&format!("{wait}2000")).await;
    assert_eq!(answer["confirmed"], false);
    let response = proxy.response().await.unwrap();
    let service: mesh::Service = body(&response).unwrap();
    assert_eq!(service.ports[0].port, 81);
    assert_eq!(answer["lagging"][0], "shop/web-1");
    proxy.accept(&response).await;
    let answer = running.json(&format!("{wait}30000")).await;
    assert_eq!(
        (&answer["confirmed"], &answer["proxies"]),
        (&true.into(), &1.into())
    );

    let proxies = running.json("/v1/proxies").await;
    assert_eq!(proxies["proxies"][0]["pod"], "shop/web-1");
    assert_eq!(proxies["proxies"][0]["upToDate"], true);
    running.stop().await;
}

#[tokio::test]
async fn a_refusal_is_told_and_ends_with_a_better_version() {
    let running = Running::start(OBJECTS).await;
    let client = running.joined().await;
    let mut proxy = client
        .stream("shop/web-1", Kind::Service, &[SERVICE])
        .await
        .unwrap();
    let _: mesh::Service = proxy.accepted().await.unwrap();

    running.write("objects.yaml", &OBJECTS.replace("port: 80,", "port: 81,"));
    let response = proxy.response().await.unwrap();
    proxy.refuse(&response, "ports[0]", "no such thing").await;
    let found = running
        .until("/v1/diagnostics", |answer| {
            answer["diagnostics"]
                .as_array()
                .is_some_and(|all| !all.is_empty())
        })
        .await;
    let finding = &found["diagnostics"][0];
    assert_eq!(finding["reason"], "RefusedByProxy");
    assert_eq!(
        (&finding["kind"], &finding["name"]),
        (&"Service".into(), &"web".into())
    );
    assert_eq!(finding["field"], "ports[0]");
    let wait = "/v1/wait?kind=Service&namespace=shop&name=web&timeout=30000";
    let answer = running.json(wait).await;
    assert_eq!(answer["confirmed"], false);
    assert_eq!(answer["refusals"][0]["reason"], "no such thing");

    running.write("objects.yaml", &OBJECTS.replace("port: 80,", "port: 82,"));
    let service: mesh::Service = proxy.accepted().await.unwrap();
    assert_eq!(service.ports[0].port, 82);
    let answer = running
        .until(wait, |answer| answer["confirmed"] == true)
        .await;
    assert_eq!(answer["lagging"].as_array().unwrap().len(), 0);
    running.stop().await;
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_named() {
    let running = Running::start(OBJECTS).await;
    let client = running.joined().await;
    let mut proxy = client
        .stream("shop/web-1", Kind::Service, &[SERVICE])
        .await
        .unwrap();
    let _: mesh::Service = proxy.accepted().await.unwrap();
    running.write(
        "objects.yaml",
        &OBJECTS.replace("port: 80,", "port: eighty,"),
    );
    let found = running
        .until("/v1/diagnostics", |answer| {
            answer["diagnostics"]
                .as_array()
                .is_some_and(|all| !all.is_empty())
        })
        .await;
    let text = found["diagnostics"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("objects.yaml:5: Service shop/web: "),
        "{text}"
    );
    let wait = "/v1/wait?kind=Service&namespace=shop&name=web&timeout=30000";
    let answer = running.json(wait).await;
    assert_eq!(answer["confirmed"], false);
    assert_eq!(answer["diagnostics"].as_array().unwrap().len(), 1);

    running.write("objects.yaml", "{");
    let answer = running.json(wait).await;
    assert_eq!(answer["confirmed"], false);
    assert_eq!(answer["diagnostics"][0]["reason"], "UnreadableYAML");
    running.write("objects.yaml", OBJECTS);
    assert_eq!(running.json(wait).await["confirmed"], true);
    running.stop().await;
}

#[tokio::test]
async fn after_a_restart_only_differences_are_sent() {
    let other = "shop/other?from=shop";
    let running = Running::start(OBJECTS).await;
    let client = running.joined().await;
    let mut proxy = client
        .stream("shop/web-1", Kind::Service, &[SERVICE])
        .await
        .unwrap();
    let response = proxy.response().await.unwrap();
    proxy.accept(&response).await;
    let version = response.resources[0].version.clone();

    let running = running.restart().await;
    let client = client.towards(&running);
    let held = [(SERVICE, version.as_str()), (other, version.as_str())];
    let names = [SERVICE, other];
    let mut proxy = client
        .resume("shop/web-1", Kind::Service, &names, &held)
        .await
        .unwrap();
    // One is as it was, the other is gone.
    let response = proxy.response().await.unwrap();
    assert_eq!(response.resources.len(), 0);
    assert_eq!(response.removed_resources, [other]);
    proxy.accept(&response).await;
    // The certificate of before is good for the next one.
    client.join("web-1", "web", None).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_certificate_it_began_with() {
    let running = Running::start_with(OBJECTS, &["--leaf-lifetime", "3s"]).await;
    let client = running.joined().await;
    let mut proxy = client
        .stream("shop/web-1", Kind::MeshConfig, &["default"])
        .await
        .unwrap();
    let _: mesh::MeshConfig = proxy.accepted().await.unwrap();
    let ended = proxy.response().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert!(ended.message().contains("expired"), "{ended}");
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_waited_for_is_said_at_once() {
    let running = Running::start(OBJECTS).await;
    let (status, body) = running.admin("GET", "/v1/wait?kind=Cabbage&name=x").await;
    assert_eq!(status, 400);
    assert!(body.contains("HTTPRoute"), "{body}");
    let path = "/v1/wait?kind=HTTPRoute&namespace=shop&name=x";
    let (status, body) = running.admin("GET", path).await;
    assert_eq!(status, 404);
    assert!(body.contains("HTTPRoute shop/x"), "{body}");
    let (_, metrics) = running.admin("GET", "/metrics").await;
    assert!(
        metrics.contains("weft_control_plane_objects{kind=\"Pod\"} 2"),
        "{metrics}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_stream_ends_in_time_and_the_next_one_goes_on() {
    let running = Running::start_with(OBJECTS, &["--longest-stream", "200ms"]).await;
    let client = running.joined().await;
    for _ in 0..2 {
        let mut proxy = client
            .stream("shop/web-1", Kind::Service, &[SERVICE])
            .await
            .unwrap();
        let service: Option<mesh::Service> = proxy.accepted().await;
        assert!(service.is_some());
        // Without an error: `Proxy` says so of a stream that has none.
        let end = proxy.response().await.unwrap_err();
        assert_eq!(end.code(), Code::Cancelled, "{end}");
    }
    running.stop().await;
}
