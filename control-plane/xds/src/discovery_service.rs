//! The one gRPC method, `DeltaAggregatedResources`.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::http;
use tonic::codegen::{BoxFuture, Service, StdError};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use weft_proto::discovery::DeltaDiscoveryRequest;

use crate::frame::{Frame, FrameCodec};
use crate::proxy_stream::{Frames, open};
use crate::server::Shared;

/// Largest request. A reconnecting proxy lists what it holds: some 100 bytes a name.
const MAX_REQUEST: usize = 8 << 20;

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`, the delta variant only. Written out
/// rather than generated, because its responses are [`Frame`]s.
#[derive(Clone)]
pub struct DiscoveryService(Arc<Shared>);

impl DiscoveryService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

const METHOD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

impl NamedService for DiscoveryService {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl<B> Service<http::Request<B>> for DiscoveryService
where
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            if request.uri().path() != METHOD {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let mut grpc =
                Grpc::new(FrameCodec).apply_max_message_size_config(Some(MAX_REQUEST), None);
            Ok(grpc.streaming(Delta(shared), request).await)
        })
    }
}

/// The one method.
struct Delta(Arc<Shared>);

impl StreamingService<DeltaDiscoveryRequest> for Delta {
    type Response = Frame;
    type ResponseStream = Frames;
    type Future = std::future::Ready<Result<Response<Frames>, Status>>;

    fn call(&mut self, request: Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        std::future::ready(open(Arc::clone(&self.0), request).map(Response::new))
    }
}
