//! The names that are ours to answer for: those below one domain, which no other server knows.

use std::net::IpAddr;

use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, ResourceRecord, TYPE};

/// Seconds for which an answer may be kept: a VM's name may be another's soon.
const KEEP: u32 = 1;

/// A domain.
pub struct Zone {
    /// Its name, without a dot before it.
    domain: String,
    /// Finds the addresses of a name of it, in small letters; none at all if there is no such name.
    lookup: Box<Lookup>,
}

type Lookup = dyn Fn(&str) -> Vec<IpAddr> + Send + Sync;

impl std::fmt::Debug for Zone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zone").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl Zone {
    /// Returns the domain of this name, in small letters, whose names `lookup` knows.
    pub fn new(domain: &str, lookup: impl Fn(&str) -> Vec<IpAddr> + Send + Sync + 'static) -> Self {
        Self { domain: domain.to_owned(), lookup: Box::new(lookup) }
    }

    /// Answers a question if it is for this domain to answer.
    pub fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        let packet = Packet::parse(message).ok()?;
        let [question] = packet.questions.as_slice() else { return None };
        let name = question.qname.to_string().to_ascii_lowercase();
        let below = name.strip_suffix(&self.domain)?;
        if !(below.is_empty() || below.ends_with('.')) || packet.has_flags(PacketFlag::RESPONSE) {
            return None;
        }
        let addresses = (self.lookup)(&name);
        let mut reply = Packet::new_reply(packet.id());
        reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
        if packet.has_flags(PacketFlag::RECURSION_DESIRED) {
            reply.set_flags(PacketFlag::RECURSION_DESIRED);
        }
        // The domain itself is there, and has no address.
        if addresses.is_empty() && !below.is_empty() {
            *reply.rcode_mut() = RCODE::NameError;
        }
        reply.answers = addresses.iter().filter_map(|address| record(question, *address)).collect();
        reply.questions.push(question.clone());
        reply.build_bytes_vec_compressed().ok()
    }
}

/// Returns what is answered of an address, if it is of the kind that was asked for.
fn record<'a>(question: &Question<'a>, address: IpAddr) -> Option<ResourceRecord<'a>> {
    let data = match (address, question.qtype) {
        (IpAddr::V4(address), QTYPE::TYPE(TYPE::A) | QTYPE::ANY) => RData::A(A::from(address)),
        (IpAddr::V6(address), QTYPE::TYPE(TYPE::AAAA) | QTYPE::ANY) => RData::AAAA(AAAA::from(address)),
        _ => return None,
    };
    let name: Name<'a> = question.qname.clone();
    Some(ResourceRecord::new(name, CLASS::IN, KEEP, data))
}

#[cfg(test)]
mod tests {
    use simple_dns::QCLASS;

    use super::*;

    fn zone() -> Zone {
        Zone::new("banger", |name| match name {
            "web.banger" => vec!["10.213.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            "old.banger" => vec!["10.213.0.3".parse().unwrap()],
            _ => Vec::new(),
        })
    }

    fn question(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(0x1234);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let name = Name::new_unchecked(name);
        packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
        packet.build_bytes_vec().unwrap()
    }

    /// Returns the answer's code and its addresses.
    fn ask(name: &str, kind: TYPE) -> Option<(RCODE, Vec<String>)> {
        let answer = zone().answer(&question(name, kind))?;
        let packet = Packet::parse(&answer).unwrap();
        assert_eq!((packet.id(), packet.questions.len()), (0x1234, 1));
        assert!(packet.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_DESIRED));
        let address = |record: &ResourceRecord<'_>| match &record.rdata {
            RData::A(a) => std::net::Ipv4Addr::from(a.address).to_string(),
            RData::AAAA(aaaa) => std::net::Ipv6Addr::from(aaaa.address).to_string(),
            other => panic!("{other:?}"),
        };
        Some((packet.rcode(), packet.answers.iter().map(address).collect()))
    }

    #[test]
    fn a_name_has_the_addresses_of_the_kind_that_is_asked_for() {
        assert_eq!(ask("web.banger", TYPE::A), Some((RCODE::NoError, vec!["10.213.0.2".into()])));
        assert_eq!(ask("WEB.Banger", TYPE::AAAA), Some((RCODE::NoError, vec!["fd00::2".into()])));
        assert_eq!(ask("old.banger", TYPE::AAAA), Some((RCODE::NoError, vec![])));
        assert_eq!(ask("web.banger", TYPE::MX), Some((RCODE::NoError, vec![])));
    }

    #[test]
    fn what_is_not_there_is_not_there_and_what_is_not_ours_is_not_answered() {
        assert_eq!(ask("none.banger", TYPE::A), Some((RCODE::NameError, vec![])));
        assert_eq!(ask("banger", TYPE::A), Some((RCODE::NoError, vec![])));
        for name in ["example.com", "web.banger.example", "notbanger", "x.notbanger"] {
            assert_eq!(ask(name, TYPE::A), None, "{name}");
        }
        for message in [&b""[..], b"\x12", &[0xff; 40], &[0; 12]] {
            assert_eq!(zone().answer(message), None);
        }
    }
}
