//! A response that shares its resources with other streams: bytes for bytes a
//! `DeltaDiscoveryResponse`, whose embedded `Resource` messages were encoded before.

use bytes::Bytes;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;
use weft_proto::discovery::DeltaDiscoveryRequest;

/// `DeltaDiscoveryResponse` on the wire; an embedded message and bytes are encoded alike.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Frame {
    /// `REPLICA/COUNTER` of the newest epoch that the response takes in.
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    /// Encoded `Resource` messages.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub resources: Vec<Bytes>,
    /// The type of all of them.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// To be named by the acknowledgement.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Names that are gone.
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
}

/// Small, because every idle stream holds a pair of these buffers; they grow when needed.
const IDLE_BUFFER: usize = 512;
const YIELD_AT: usize = 32 * 1024;

/// Encodes frames, decodes requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = Frame;
    type Decode = DeltaDiscoveryRequest;
    type Encoder = <ProstCodec<Frame, DeltaDiscoveryRequest> as Codec>::Encoder;
    type Decoder = <ProstCodec<Frame, DeltaDiscoveryRequest> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<Frame, DeltaDiscoveryRequest>::raw_encoder(settings())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<Frame, DeltaDiscoveryRequest>::raw_decoder(settings())
    }
}

fn settings() -> BufferSettings {
    BufferSettings::new(IDLE_BUFFER, YIELD_AT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{Body, Facts, absent};
    use crate::kind::Kind;
    use prost::Message;
    use weft_proto::discovery::DeltaDiscoveryResponse;
    use weft_proto::mesh;

    #[test]
    fn a_frame_is_a_delta_response_on_the_wire() {
        let body = Body::new(
            Kind::TrustBundle,
            "default",
            &mesh::TrustBundle::default(),
            Facts::None,
        );
        let frame = Frame {
            system_version_info: "r/7".into(),
            resources: vec![body.wire().clone(), absent("gone")],
            type_url: Kind::TrustBundle.type_url().into(),
            nonce: "3".into(),
            removed_resources: vec!["x".into()],
        };
        let read = DeltaDiscoveryResponse::decode(frame.encode_to_vec().as_slice()).unwrap();
        assert_eq!(read.system_version_info, "r/7");
        assert_eq!(read.nonce, "3");
        assert_eq!(read.type_url, Kind::TrustBundle.type_url());
        assert_eq!(read.removed_resources, ["x"]);
        assert_eq!(read.resources[0].version, body.version().to_string());
        assert_eq!(read.resources[1].name, "gone");
        assert_eq!(read.resources[1].resource, None);
    }
}
