//! Names of Services, as a cluster's DNS has them: `SERVICE.NAMESPACE.svc.cluster.local` is the
//! Service's address, or its pods' if it is headless; `POD.SERVICE.…` is one pod of a headless one.
//! The shorter forms come from the search path in a pod's `resolv.conf`. Every other name does not
//! exist: there is no way out of this machine's mesh.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, RwLock};

use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// The domain that everything ends in.
pub const DOMAIN: &str = "svc.cluster.local";
/// Seconds that an answer may be kept; endpoints of headless Services change.
const TTL: u32 = 1;
/// TCP connections served at once.
const MAX_CONNECTIONS: usize = 64;

/// All names (lower case, no dot at the end) with their addresses.
pub type Zone = BTreeMap<String, Vec<IpAddr>>;

/// The zone as it is now; replaced as a whole.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<RwLock<Arc<Zone>>>);

impl Names {
    /// Replaces all names.
    pub fn set(&self, zone: Zone) {
        if let Ok(mut current) = self.0.write() {
            *current = Arc::new(zone);
        }
    }

    fn zone(&self) -> Arc<Zone> {
        self.0.read().map(|zone| zone.clone()).unwrap_or_default()
    }
}

/// Answers on `socket` until dropped.
pub async fn serve_udp(socket: UdpSocket, names: Names) -> std::io::Result<()> {
    let mut buffer = [0; 1500];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await?;
        if let Some(reply) = answer(&buffer[..length], &names.zone()) {
            // Whoever asked may be gone.
            let _ = socket.send_to(&reply, peer).await;
        }
    }
}

/// Answers on connections to `listener` until dropped.
pub async fn serve_tcp(listener: TcpListener, names: Names) -> std::io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        connections.spawn(serve_connection(stream, names.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(mut stream: TcpStream, names: Names) -> std::io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await?;
        let Some(reply) = answer(&query, &names.zone()) else {
            return Ok(());
        };
        let length = u16::try_from(reply.len()).map_err(std::io::Error::other)?;
        stream.write_u16(length).await?;
        stream.write_all(&reply).await?;
    }
}

/// The reply to one message; `None` for what is no query.
pub fn answer(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let query = Packet::parse(query).ok()?;
    if query.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    let question = query.questions.first()?.clone();
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    let name = question.qname.to_string().to_ascii_lowercase();
    match zone.get(name.trim_end_matches('.')) {
        // A name above an existing one exists too, without addresses.
        None if !zone
            .keys()
            .any(|known| known.ends_with(&format!(".{name}"))) =>
        {
            *reply.rcode_mut() = RCODE::NameError;
        }
        None => {}
        Some(addresses) if question.qclass == QCLASS::CLASS(CLASS::IN) => {
            for address in addresses {
                let data = match (address, question.qtype) {
                    (IpAddr::V4(ip), QTYPE::TYPE(TYPE::A)) => RData::A(A::from(*ip)),
                    (IpAddr::V6(ip), QTYPE::TYPE(TYPE::AAAA)) => RData::AAAA(AAAA::from(*ip)),
                    _ => continue,
                };
                let record = ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, data);
                reply.answers.push(record);
            }
        }
        Some(_) => {}
    }
    reply.questions.push(question);
    reply.build_bytes_vec_compressed().ok()
}

#[cfg(test)]
mod tests {
    use simple_dns::{Name, Question};

    use super::*;

    fn ask(name: &str, qtype: TYPE) -> (RCODE, usize) {
        let zone = Zone::from([(
            "web.shop.svc.cluster.local".to_owned(),
            vec![
                "10.96.0.10".parse().unwrap(),
                "fd00:10:96::a".parse().unwrap(),
            ],
        )]);
        let mut query = Packet::new_query(7);
        let name = Name::new_unchecked(name);
        query
            .questions
            .push(Question::new(name, qtype.into(), CLASS::IN.into(), false));
        let reply = answer(&query.build_bytes_vec().unwrap(), &zone).unwrap();
        let reply = Packet::parse(&reply).unwrap();
        assert_eq!(reply.id(), 7);
        (reply.rcode(), reply.answers.len())
    }

    #[test]
    fn known_names_have_addresses_and_others_do_not_exist() {
        assert_eq!(
            ask("web.shop.svc.cluster.local", TYPE::A),
            (RCODE::NoError, 1)
        );
        assert_eq!(
            ask("WEB.shop.svc.cluster.local", TYPE::AAAA),
            (RCODE::NoError, 1)
        );
        assert_eq!(
            ask("web.shop.svc.cluster.local", TYPE::MX),
            (RCODE::NoError, 0)
        );
        assert_eq!(ask("shop.svc.cluster.local", TYPE::A), (RCODE::NoError, 0));
        assert_eq!(
            ask("other.shop.svc.cluster.local", TYPE::A),
            (RCODE::NameError, 0)
        );
        assert_eq!(ask("example.com", TYPE::A), (RCODE::NameError, 0));
    }

    #[test]
    fn garbage_and_replies_get_no_answer() {
        assert!(answer(b"not dns", &Zone::new()).is_none());
        let reply = Packet::new_reply(1).build_bytes_vec().unwrap();
        assert!(answer(&reply, &Zone::new()).is_none());
    }
}
