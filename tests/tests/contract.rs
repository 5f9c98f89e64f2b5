//! The contract between both sides of the stream: every golden case of compile is encoded as the control plane does it and read as
//! a proxy does it, name by name as the proxy asks; then the proxy's own decision functions are asked what came of it.
#![allow(clippy::unwrap_used)]

#[path = "contract/defaults.rs"]
mod defaults;
#[path = "contract/docs.rs"]
mod docs;
#[path = "contract/skew.rs"]
mod skew;
#[path = "contract/wire.rs"]
mod wire;

use http::{HeaderMap, Method};
use weft_identity::SpiffeId;
use weft_proxy_config::{
    Decision, HttpFilter, Inbound, Peer, Port, RequestView, Resolution, RouteOutcome, Store,
    WeightedBackendTarget,
};
use wire::{Case, pod};

#[test]
fn every_resource_of_every_golden_case_is_read() {
    let cases = Case::all();
    assert!(cases.len() >= 30, "the cases are not where they should be");
    let mut read = 0;
    for case in cases {
        for (kind, name) in case.resources() {
            let resource = case.wire.resource(kind, &name);
            let resource = resource.unwrap_or_else(|| panic!("{}: no {kind} {name}", case.name));
            assert_eq!(resource.name, name, "{}", case.name);
            let (_, mut proxy) = weft_proxy_xds::Offline::new(pod("shop/none"));
            if let Ok(address) = name.parse() {
                proxy.want(address);
            }
            let outcome = proxy.apply(wire::proxy_kind(kind), &name, wire::body(resource));
            assert_eq!(outcome, Ok(()), "{}: {kind} {name}", case.name);
            read += 1;
        }
    }
    assert!(read > 200, "{read}");
}

#[test]
fn every_pod_of_every_golden_case_becomes_whole() {
    for case in Case::all() {
        for name in case.pods() {
            let store = case.proxy(&name, &case.addresses());
            let inbound = store.inbound();
            let inbound = inbound.unwrap_or_else(|| panic!("{}: {name} is not whole", case.name));
            assert_eq!(format!("{}/{}", inbound.namespace, inbound.pod), name);
            assert!(store.is_mesh_known());
            for address in case.addresses() {
                let resolved = store.resolved(address);
                let known = matches!(
                    resolved,
                    Some(Resolution::Service { .. } | Resolution::Workload(_))
                );
                assert!(known, "{}: {address} from {name}: {resolved:?}", case.name);
            }
        }
    }
}

/// A request line, then headers as `name: value`.
struct Request {
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
}

impl Request {
    fn new(text: &str) -> Self {
        let mut parts = text.split(", ");
        let (method, target) = parts.next().unwrap().split_once(' ').unwrap();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let mut headers = HeaderMap::new();
        for header in parts {
            let (name, value) = header.split_once(": ").unwrap();
            let name: http::HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        Self {
            method: method.parse().unwrap(),
            path: path.to_owned(),
            query,
            headers,
        }
    }

    fn view(&self) -> RequestView<'_> {
        let host = self.headers.get("host");
        RequestView {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            host: host.map(|host| host.to_str().unwrap()),
        }
    }
}

/// `RULE: SERVICE×WEIGHT …`, or what else comes of it.
fn routed(port: &Port, request: &str) -> String {
    let request = Request::new(request);
    let rule = match port.route(&request.view()) {
        RouteOutcome::Rule(rule) => rule,
        other => return format!("{other:?}"),
    };
    let mut out = format!("{}:", rule.name);
    for backend in rule.backends() {
        let target = match &backend.target {
            WeightedBackendTarget::Backend(backend) => backend.name().to_string(),
            WeightedBackendTarget::Invalid(_) => "500".to_owned(),
        };
        out += &format!(" {target}×{}", backend.weight);
    }
    out
}

/// What the store knows of the service at an address.
fn with_port<T>(store: &Store, address: &str, ask: impl FnOnce(&Port) -> T) -> T {
    let Some(Resolution::Service { service, port }) = store.resolved(address.parse().unwrap())
    else {
        panic!("no service at {address}");
    };
    ask(service.load().port(port).unwrap())
}

#[track_caller]
fn assert_routes(case: &str, client: &str, address: &str, table: &[(&str, &str)]) {
    let store = Case::load(case).proxy(client, &[address.parse().unwrap()]);
    with_port(&store, address, |port| {
        for (request, expected) in table {
            assert_eq!(routed(port, request), *expected, "{case}: {request}");
        }
    });
}

#[test]
fn requests_take_the_rules_that_the_routes_say() {
    assert_routes(
        "http-route-precedence",
        "shop/client",
        "10.96.0.1:80",
        &[
            ("GET /a", "HTTPRoute/shop/b-older/exact: web-v1×1"),
            ("GET /a/", "HTTPRoute/shop/a-younger/0: web-v2×1"),
            ("POST /a/x", "HTTPRoute/shop/a-younger/3: web-v2×1"),
            (
                "GET /a/x, x-canary: 1",
                "HTTPRoute/shop/a-younger/1: web-v2×1",
            ),
            ("GET /a/x?q=1", "HTTPRoute/shop/a-younger/2: web-v2×1"),
            ("GET /a/b/c", "HTTPRoute/shop/b-older/0: web-v1×1"),
            ("GET /z/../a/b", "HTTPRoute/shop/b-older/0: web-v1×1"),
            ("GET /ab", "HTTPRoute/shop/b-older/0: web-v1×1"),
        ],
    );
    assert_routes(
        "http-route-weights",
        "shop/client",
        "10.96.0.1:80",
        &[("GET /", "HTTPRoute/shop/canary/0: web-v1×90 web-v2×10")],
    );
    assert_routes(
        "http-route-missing-backend",
        "shop/client",
        "10.96.0.1:80",
        &[(
            "GET /",
            "HTTPRoute/shop/canary/0: web-v1×3 500×1 500×1 500×1 500×1",
        )],
    );
    assert_routes(
        "http-route-unsupported",
        "shop/client",
        "10.96.0.1:80",
        &[
            ("GET /good", "HTTPRoute/shop/partly/5: web×1"),
            ("GET /mirrored", "NoMatch"),
            ("GET /abc", "NoMatch"),
        ],
    );
    assert_routes(
        "grpc-route",
        "shop/client",
        "10.96.0.1:9000",
        &[
            ("POST /shop.Cart/Add", "GRPCRoute/shop/grpc/1: web×1"),
            ("POST /shop.Cart/Remove", "GRPCRoute/shop/grpc/0: web×1"),
            ("POST /other/X, x-canary: 1", "GRPCRoute/shop/grpc/3: web×1"),
            ("POST /other/X", "GRPCRoute/shop/grpc/4: web×1"),
        ],
    );
}

#[test]
fn a_consumers_route_holds_for_its_namespace_alone() {
    let at = "10.96.0.1:80";
    let producer = [("GET /", "HTTPRoute/shop/producer/0: web×1")];
    let consumer = [("GET /", "HTTPRoute/office/consumer/0: web×1")];
    assert_routes("http-route-consumer", "shop/client", at, &producer);
    assert_routes("http-route-consumer", "elsewhere/client", at, &producer);
    assert_routes("http-route-consumer", "office/client", at, &consumer);
    let other_port = "10.96.0.1:81";
    assert_routes(
        "http-route-consumer",
        "office/client",
        other_port,
        &producer,
    );
}

#[test]
fn filters_do_what_they_say() {
    let address = "10.96.0.1:80";
    let store = Case::load("http-route-filters").proxy("shop/c", &[address.parse().unwrap()]);
    with_port(&store, address, |port| {
        let filters = |request: &str| match port.route(&Request::new(request).view()) {
            RouteOutcome::Rule(rule) => rule.filters.clone(),
            other => panic!("{other:?}"),
        };
        assert!(matches!(filters("GET /old")[..], [HttpFilter::Redirect(_)]));
        let [
            HttpFilter::Rewrite(_),
            HttpFilter::RequestHeaders(request),
            HttpFilter::ResponseHeaders(response),
        ] = &filters("GET /api/x")[..]
        else {
            panic!("{:?}", filters("GET /api/x"));
        };
        let mut headers = Request::new("GET /, x-one: 0, x-two: 0, x-three: 0").headers;
        request.apply(&mut headers);
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let values = |name| {
            headers
                .get_all(name)
                .iter()
                .map(text)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            (values("x-one"), values("x-two")),
            ("1".to_owned(), "0 2".to_owned())
        );
        assert!(!headers.contains_key("x-three"));
        let mut headers = Request::new("GET /, server: x").headers;
        response.apply(&mut headers);
        assert!(headers.is_empty());
    });
}

#[test]
fn endpoints_come_with_identity_and_port() {
    let case = Case::load("service-endpoints");
    let store = case.proxy("shop/client", &case.addresses());
    let mut targets = 0;
    for address in case.addresses() {
        let backend = match store.resolved(address).unwrap() {
            Resolution::Service { service, port } => service.load().port(port).unwrap().own.clone(),
            Resolution::Workload(backend) => backend,
            other => panic!("{other:?}"),
        };
        for target in backend.load().targets() {
            assert_eq!(target.mtls, target.endpoint.identity.is_some());
            assert_ne!(target.addr.port(), 0);
            targets += 1;
        }
    }
    assert!(targets > 3, "{targets}");
}

fn spiffe(account: &str) -> SpiffeId {
    let (namespace, account) = account.split_once('/').unwrap();
    format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
        .parse()
        .unwrap()
}

/// `allow`, or the rule that refuses without its hash. The caller is `NAMESPACE/ACCOUNT` or `-`; the request as in [`Request`], or
/// `-` for opaque bytes.
fn decided(inbound: &Inbound, caller: &str, from: &str, port: u16, request: &str) -> String {
    let identity = (caller != "-").then(|| spiffe(caller));
    let peer = Peer {
        identity: identity.as_ref(),
        address: from.parse().unwrap(),
        port,
    };
    let decision = if request == "-" {
        inbound.authorize_connection(&peer)
    } else {
        inbound.authorize_request(&peer, &Request::new(request).view())
    };
    match decision {
        Decision::Allow => "allow".to_owned(),
        Decision::Deny(id) => id.as_str().split_once('@').unwrap().0.to_owned(),
    }
}

type Question = (&'static str, &'static str, u16, &'static str, &'static str);

#[track_caller]
fn assert_decisions(case: &str, pod: &str, table: &[Question]) {
    let store = Case::load(case).proxy(pod, &[]);
    let inbound = store.inbound().unwrap();
    for (caller, from, port, request, expected) in table {
        let decision = decided(&inbound, caller, from, *port, request);
        assert_eq!(
            decision, *expected,
            "{case}: {caller} {from} {port} {request}"
        );
    }
}

#[test]
fn authorisation_decides_what_the_policies_say() {
    let inside = "10.244.0.9";
    assert_decisions(
        "authorization-rules",
        "shop/web-a",
        &[
            // DENY: from outside the blocks, not GET, not at 9000, without x-trace.
            (
                "shop/cart",
                "192.0.2.1",
                8080,
                "POST /health",
                "shop/deny#0",
            ),
            (
                "shop/cart",
                "192.0.2.1",
                8080,
                "POST /health, x-trace: 1",
                "allow",
            ),
            ("shop/cart", "192.0.2.1", 9000, "POST /health", "allow"),
            ("shop/cart", "192.0.2.1", 8080, "-", "shop/deny#0"),
            ("shop/cart", inside, 8080, "POST /health", "allow"),
            // Opaque bytes: the second ALLOW rule asks for nothing.
            ("shop/cart", inside, 8080, "-", "allow"),
        ],
    );
    assert_decisions(
        "authorization-targets",
        "shop/web-a",
        &[
            ("shop/any", inside, 8080, "GET /", "allow"),
            ("-", inside, 9000, "-", "allow"),
            ("evil/any", inside, 8080, "GET /", "weft-system/mesh#0"),
            ("evil/any", inside, 8080, "-", "weft-system/mesh#0"),
        ],
    );
    let refused = |decision: &str| decision != "allow";
    let store = Case::load("authorization-unreadable").proxy("shop/web-a", &[]);
    let web = store.inbound().unwrap();
    assert!(refused(&decided(&web, "shop/cart", inside, 8080, "GET /")));
    assert_decisions(
        "authorization-unreadable",
        "shop/other-a",
        &[
            ("shop/cart", inside, 8080, "GET /", "allow"),
            ("office/clerk", inside, 8080, "GET /", "default-deny"),
            ("-", inside, 8080, "-", "default-deny"),
        ],
    );
}
