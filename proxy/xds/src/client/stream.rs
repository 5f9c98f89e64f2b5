//! One stream, from its first request to its end.

use std::pin::Pin;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use weft_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use super::{Client, StreamEnd, at};
use crate::backoff::Backoff;
use crate::certificate::{IssueError, Issued, Proof, issue};
use crate::session::Session;

/// The control plane's responses are about 1 MiB; a single resource may be larger.
const LARGEST_RESPONSE: usize = 16 << 20;

type Renewal = Pin<Box<dyn Future<Output = Result<Issued, IssueError>> + Send>>;

/// A stream and what is said on it.
pub(super) struct Open {
    channel: Channel,
    session: Session,
    requests: mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Open {
    fn say(&self, requests: Vec<DeltaDiscoveryRequest>) {
        for request in requests {
            // Nobody listens once the stream has ended, which the responses will tell.
            let _ = self.requests.send(request);
        }
    }
}

impl Client {
    /// Keeps a stream until it ends.
    pub(super) async fn keep(&mut self, mut open: Open, backoff: &mut Backoff) -> StreamEnd {
        self.activation.writer().set_connected(true);
        self.change_status(|status| {
            status.connected = true;
            status.connections += 1;
        });
        let mut renewal: Option<Renewal> = None;
        loop {
            if renewal.is_none() && self.renewal_due() {
                let issued = issue(
                    self.settings.clone(),
                    open.channel.clone(),
                    Proof::Certificate,
                );
                renewal = Some(Box::pin(issued));
            }
            let renew_at = match renewal {
                Some(_) => None,
                None => self.renewal_delay().map(|delay| Instant::now() + delay),
            };
            tokio::select! {
                response = open.responses.message() => match response {
                    Ok(Some(response)) => {
                        backoff.reset();
                        self.receive(&mut open, response);
                    }
                    Ok(None) => return StreamEnd::Closed,
                    Err(status) => return StreamEnd::Refused(Box::new(status)),
                },
                address = self.activation.writer().wanted() => {
                    self.activation.want(address);
                    self.refresh(&mut open);
                }
                _ = self.sweep.tick() => {
                    self.activation.sweep();
                    self.report_certificate();
                    self.refresh(&mut open);
                }
                () = at(open.session.next_deadline()) => self.refresh(&mut open),
                () = at(self.save_at) => self.save(),
                () = at(renew_at) => {}
                issued = outcome(&mut renewal) => {
                    renewal = None;
                    match issued {
                        Ok(issued) => {
                            self.take_issued(issued);
                            return StreamEnd::Renewed;
                        }
                        Err(error) => self.renewal_failed(&error),
                    }
                }
            }
        }
    }

    /// Begins a stream on a connection that shows a valid certificate.
    pub(super) async fn open_stream(&mut self, channel: Channel) -> Result<Open, StreamEnd> {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let mut session = Session::new(self.settings.pod.clone());
        // The control plane answers once it has read the first request.
        for request in session.refresh(&self.activation, Instant::now()) {
            let _ = requests.send(request);
        }
        let mut client = AggregatedDiscoveryServiceClient::new(channel.clone())
            .max_decoding_message_size(LARGEST_RESPONSE);
        let outgoing = UnboundedReceiverStream::new(outgoing);
        let answered =
            self.meanwhile(async move { client.delta_aggregated_resources(outgoing).await });
        let responses = answered
            .await
            .map_err(|status| StreamEnd::Refused(Box::new(status)))?
            .into_inner();
        Ok(Open {
            channel,
            session,
            requests,
            responses,
        })
    }

    fn receive(&mut self, open: &mut Open, response: DeltaDiscoveryResponse) {
        let trust = self.tls.trust().current().hash();
        let requests = open
            .session
            .receive(response, &mut self.activation, Instant::now());
        let now_trusted = self.tls.trust().current();
        if now_trusted.hash() != trust {
            self.state.save_bundle(now_trusted.bundle());
            self.check_own_chain();
        }
        open.say(requests);
        self.save_soon();
        self.report_session(&open.session);
    }

    fn refresh(&mut self, open: &mut Open) {
        let requests = open.session.refresh(&self.activation, Instant::now());
        let said_something = !requests.is_empty();
        open.say(requests);
        if said_something {
            self.report_session(&open.session);
        }
    }
}

/// The outcome of a renewal that is under way; for ever without one.
async fn outcome(renewal: &mut Option<Renewal>) -> Result<Issued, IssueError> {
    match renewal {
        Some(renewal) => renewal.await,
        None => std::future::pending().await,
    }
}
