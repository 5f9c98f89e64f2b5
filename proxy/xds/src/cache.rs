//! What is in force, on disk, so that a restarted proxy serves without a control plane: one file, replaced
//! as a whole, of length-delimited messages. A file of another version, of another pod, or damaged is as
//! good as none.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use prost::Message;
use weft_certs::{PRIVATE, write_atomic};
use weft_identity::PodRef;
use weft_proto::discovery::{DeltaDiscoveryResponse, Resource};

use crate::kind::Kind;
use crate::resource::{Active, Wire};

const FILE: &str = "resources";
/// Changes whenever an older proxy could misread the file.
const FORMAT: &str = "weft-resources-1";

/// The cache of one pod.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    path: PathBuf,
    pod: PodRef,
}

impl Cache {
    /// The cache in `directory`, which is made (0700) if it is not there.
    pub fn new(directory: &Path, pod: PodRef) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        Ok(Self {
            path: directory.join(FILE),
            pod,
        })
    }

    /// Replaces the file. Trust anchors have a file of their own.
    pub fn save(&self, resources: Vec<Active>) -> io::Result<()> {
        let mut file = header(&self.pod).encode_length_delimited_to_vec();
        for kind in Kind::ALL {
            if kind == Kind::TrustBundle {
                continue;
            }
            let of_kind = resources.iter().filter(|active| active.kind == kind);
            let group = DeltaDiscoveryResponse {
                type_url: kind.type_url().to_owned(),
                resources: of_kind.map(wire_resource).collect(),
                ..Default::default()
            };
            file.extend(group.encode_length_delimited_to_vec());
        }
        write_atomic(&self.path, &file, PRIVATE)
    }

    /// What was saved last, in the order in which it takes effect.
    pub fn load(&self) -> io::Result<Vec<Active>> {
        let file = match fs::read(&self.path) {
            Ok(file) => Bytes::from(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        read(file, &self.pod).map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}

fn header(pod: &PodRef) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: FORMAT.to_owned(),
        system_version_info: pod.to_string(),
        ..Default::default()
    }
}

fn wire_resource(active: &Active) -> Resource {
    Resource {
        name: active.name.clone(),
        version: active.wire.version.clone(),
        resource: Some(prost_types::Any {
            type_url: active.kind.type_url().to_owned(),
            value: active.wire.bytes.to_vec(),
        }),
        aliases: Vec::new(),
    }
}

fn read(mut file: Bytes, pod: &PodRef) -> Result<Vec<Active>, String> {
    let mut next = || {
        DeltaDiscoveryResponse::decode_length_delimited(&mut file)
            .map(|group| (group, file.has_remaining()))
            .map_err(|error| error.to_string())
    };
    let (found, mut more) = next()?;
    if found != header(pod) {
        return Err(format!(
            "it is {} of {}",
            found.type_url, found.system_version_info
        ));
    }
    let mut resources = Vec::new();
    while more {
        let (group, has_more) = next()?;
        more = has_more;
        let kind = Kind::from_type_url(&group.type_url)
            .ok_or_else(|| format!("unknown type {}", group.type_url))?;
        resources.extend(group.resources.into_iter().filter_map(|resource| {
            Some(Active {
                kind,
                name: resource.name,
                wire: Wire {
                    version: resource.version,
                    bytes: resource.resource?.value.into(),
                },
            })
        }));
    }
    Ok(resources)
}

#[cfg(test)]
mod tests;
