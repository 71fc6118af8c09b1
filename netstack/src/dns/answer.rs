use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{HEADER, IN, MAX_MESSAGE, Message, MessageError, Record, header, kind};
use crate::policy::{Known, Name};

/// Longest chain of aliases that is followed. Resolvers give up earlier.
const MAX_CHAIN: usize = 16;
/// Least room that every client of UDP has (RFC 1035, section 4.2.1).
const LEAST_ROOM: usize = 512;
/// Parameters of service bindings that give addresses away (RFC 9460, 7.3).
const HINTS: [u16; 2] = [4, 6];

/// An address that an answer gives to what was asked.
#[derive(Debug)]
pub(super) struct Found {
    /// Which record of the answer section.
    pub record: usize,
    pub address: IpAddr,
    /// The least of the record and of the aliases that lead to it.
    pub ttl: u32,
}

/// How an answer relates to its question.
#[derive(Debug)]
pub(super) struct Reading {
    /// What was asked, and its aliases.
    pub known: Known,
    pub addresses: Vec<Found>,
    /// Whether a service binding brings addresses past the A and AAAA records.
    pub has_hints: bool,
}

/// Follows the aliases from the question, and takes the addresses at their
/// end. Everything else in the answer is nobody's.
pub(super) fn read(answer: &Message<'_>) -> Result<Reading, MessageError> {
    let (chain, ttl) = aliases(answer)?;
    let end = chain.last().unwrap_or(&answer.question.name);
    let mut addresses = vec![];
    if answer.code() == 0 {
        for (record, found) in answer.answers.iter().enumerate() {
            if found.class == IN
                && found.owner == *end
                && let Some(address) = address(answer, found)?
            {
                addresses.push(Found { record, address, ttl: found.ttl.min(ttl) });
            }
        }
    }
    let has_hints = answer.answers.iter().any(is_service);
    let known = Known { asked: answer.question.name.clone(), chain: chain.into() };
    Ok(Reading { known, addresses, has_hints })
}

fn address(answer: &Message<'_>, record: &Record) -> Result<Option<IpAddr>, MessageError> {
    let bad = MessageError::Truncated("address");
    let data = answer.data(record);
    match record.kind {
        kind::A => {
            let octets: [u8; 4] = data.try_into().map_err(|_| bad)?;
            Ok(Some(Ipv4Addr::from(octets).into()))
        }
        kind::AAAA => {
            let octets: [u8; 16] = data.try_into().map_err(|_| bad)?;
            Ok(Some(Ipv6Addr::from(octets).into()))
        }
        _ => Ok(None),
    }
}

/// The names that the question is an alias of, in order, and their least TTL.
/// A chain that is too long or a circle leads nowhere.
fn aliases(answer: &Message<'_>) -> Result<(Vec<Name>, u32), MessageError> {
    let mut targets: HashMap<&Name, (Name, u32)> = HashMap::new();
    for record in &answer.answers {
        if record.kind == kind::CNAME && record.class == IN {
            let target = answer.target(record)?;
            targets.entry(&record.owner).or_insert((target, record.ttl));
        }
    }
    let mut chain: Vec<Name> = vec![];
    let mut least = u32::MAX;
    let mut at = &answer.question.name;
    while let Some((target, ttl)) = targets.get(at) {
        let is_circle = *target == answer.question.name || chain.contains(target);
        if is_circle || chain.len() >= MAX_CHAIN {
            return Err(MessageError::Name);
        }
        chain.push(target.clone());
        least = least.min(*ttl);
        at = target;
    }
    Ok((chain, least))
}

fn is_service(record: &Record) -> bool {
    record.kind == kind::HTTPS || record.kind == kind::SVCB
}

/// The answer without these records of its answer section and without the
/// hints of service bindings. What remains is written anew, because cutting
/// bytes out would leave compressed names pointing elsewhere; the sections
/// behind the answers, but for EDNS, and signatures over what is no longer
/// whole, go. What does not fit becomes an answer that says so.
pub(super) fn without(answer: &Message<'_>, refused: &[usize]) -> Option<Vec<u8>> {
    let mut kept = vec![];
    let mut count = 0;
    let mut writer = Writer::new(answer)?;
    for (index, record) in answer.answers.iter().enumerate() {
        if !refused.contains(&index) && writer.record(answer, record, &mut kept).is_ok() {
            count += 1;
        }
    }
    let opt = answer.opt.as_ref().map(|record| edns(answer, record)).unwrap_or_default();
    let question = answer.bytes.get(HEADER..answer.question_end)?;
    // Not authentic any more.
    let flags = answer.flags & !0x0020;
    let additional = u16::from(!opt.is_empty());
    let whole = HEADER + question.len() + kept.len() + opt.len();
    if whole > answer.bytes.len().clamp(LEAST_ROOM, MAX_MESSAGE) {
        let head = header(answer.id, flags | 0x0200, 0, additional);
        return Some([&head, question, &opt].concat());
    }
    let head = header(answer.id, flags, count, additional);
    Some([&head, question, &kept, &opt].concat())
}

/// The record of EDNS with its size and flags, without options: they are about
/// the answer as it was.
fn edns(answer: &Message<'_>, record: &Record) -> Vec<u8> {
    let ttl = answer.bytes.get(record.data.start - 6..record.data.start - 2).unwrap_or(&[0; 4]);
    let class = record.class.to_be_bytes();
    [&[0], &kind::OPT.to_be_bytes()[..], &class, ttl, &[0, 0]].concat()
}

/// Writes records behind the question.
struct Writer {
    /// Where the records begin.
    start: usize,
    /// Names that were written whole, and where.
    names: HashMap<Name, usize>,
}

impl Writer {
    fn new(answer: &Message<'_>) -> Option<Self> {
        let names = HashMap::from([(answer.question.name.clone(), HEADER)]);
        Some(Self { start: answer.question_end, names })
    }

    /// Adds the record to `kept`, or returns why it cannot be kept.
    fn record(
        &mut self,
        answer: &Message<'_>,
        record: &Record,
        kept: &mut Vec<u8>,
    ) -> Result<(), MessageError> {
        let data = match record.kind {
            kind::A | kind::AAAA => answer.data(record).to_vec(),
            kind::HTTPS | kind::SVCB => without_hints(answer.data(record))?,
            kind::CNAME => vec![],
            // Signatures, names in compressed data, kinds of their own.
            _ => return Err(MessageError::Name),
        };
        let target = match record.kind {
            kind::CNAME => Some(answer.target(record)?),
            _ => None,
        };
        self.name(&record.owner, kept);
        kept.extend(record.kind.to_be_bytes());
        kept.extend(record.class.to_be_bytes());
        kept.extend(record.ttl.to_be_bytes());
        let length_at = kept.len();
        kept.extend([0, 0]);
        match &target {
            Some(target) => self.name(target, kept),
            None => kept.extend(&data),
        }
        let length = u16::try_from(kept.len() - length_at - 2).unwrap_or_default();
        if let Some(place) = kept.get_mut(length_at..length_at + 2) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }

    /// A name, or a pointer to where it stands already.
    fn name(&mut self, name: &Name, kept: &mut Vec<u8>) {
        let pointer = self.names.get(name).and_then(|at| u16::try_from(*at).ok());
        if let Some(pointer) = pointer.filter(|at| *at < 0x4000) {
            kept.extend((0xc000 | pointer).to_be_bytes());
            return;
        }
        self.names.insert(name.clone(), self.start + kept.len());
        for label in name.labels() {
            kept.push(u8::try_from(label.len()).unwrap_or_default());
            kept.extend(label);
        }
        kept.push(0);
    }
}

/// The data of a service binding (RFC 9460, section 2.2) without addresses.
fn without_hints(data: &[u8]) -> Result<Vec<u8>, MessageError> {
    let bad = MessageError::Truncated("service binding");
    // Priority, and a target that is never compressed.
    let mut at = 2;
    loop {
        match data.get(at).ok_or(bad)? {
            0 => break,
            length @ 1..=63 => at += 1 + usize::from(*length),
            _ => return Err(MessageError::Name),
        }
    }
    at += 1;
    let mut kept = data.get(..at).ok_or(bad)?.to_vec();
    while at < data.len() {
        let [k0, k1, l0, l1] = data.get(at..at + 4).and_then(|h| h.try_into().ok()).ok_or(bad)?;
        let end = at + 4 + usize::from(u16::from_be_bytes([l0, l1]));
        let parameter = data.get(at..end).ok_or(bad)?;
        if !HINTS.contains(&u16::from_be_bytes([k0, k1])) {
            kept.extend(parameter);
        }
        at = end;
    }
    Ok(kept)
}
