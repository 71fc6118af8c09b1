//! Messages as tests write them.
use std::net::IpAddr;

pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const HTTPS: u16 = 65;

/// A record with its owner spelled out.
#[derive(Clone)]
pub struct Record {
    pub owner: String,
    pub kind: u16,
    pub ttl: u32,
    pub data: Vec<u8>,
}

pub fn name(text: &str) -> Vec<u8> {
    let mut bytes = vec![];
    for label in text.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

pub fn address(owner: &str, ttl: u32, address: &str) -> Record {
    let (kind, data) = match address.parse().unwrap() {
        IpAddr::V4(v4) => (A, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AAAA, v6.octets().to_vec()),
    };
    Record { owner: owner.to_owned(), kind, ttl, data }
}

pub fn alias(owner: &str, target: &str) -> Record {
    Record { owner: owner.to_owned(), kind: CNAME, ttl: 60, data: name(target) }
}

/// A header with counts, and what follows.
pub fn message(id: u16, flags: u16, counts: [u16; 4], body: &[&[u8]]) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    counts.iter().for_each(|count| bytes.extend(count.to_be_bytes()));
    body.iter().for_each(|part| bytes.extend(*part));
    bytes
}

pub fn question(text: &str, kind: u16) -> Vec<u8> {
    [name(text), kind.to_be_bytes().to_vec(), vec![0, 1]].concat()
}

pub fn query(id: u16, text: &str, kind: u16) -> Vec<u8> {
    message(id, 0x0100, [1, 0, 0, 0], &[&question(text, kind)])
}

pub fn record(record: &Record) -> Vec<u8> {
    let length = u16::try_from(record.data.len()).unwrap();
    [
        name(&record.owner),
        record.kind.to_be_bytes().to_vec(),
        vec![0, 1],
        record.ttl.to_be_bytes().to_vec(),
        length.to_be_bytes().to_vec(),
        record.data.clone(),
    ]
    .concat()
}

pub fn answer(id: u16, text: &str, kind: u16, records: &[Record]) -> Vec<u8> {
    let count = u16::try_from(records.len()).unwrap();
    let body: Vec<u8> = records.iter().flat_map(record).collect();
    message(id, 0x8180, [1, count, 0, 0], &[&question(text, kind), &body])
}

/// With its length before it, as over TCP.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}
