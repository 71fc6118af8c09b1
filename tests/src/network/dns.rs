//! A DNS server that says what the test wants it to.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Longest answer in a datagram; a longer one is cut short and says so.
const MAX_DATAGRAM: usize = 512;
/// Most aliases that are followed.
const MAX_ALIASES: usize = 20;
/// Seconds that an answer holds.
const TTL: u32 = 60;

const PORT: u16 = 53;
const HEADER: usize = 12;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;
const NO_SUCH_NAME: u16 = 3;
const RESPONSE: u16 = 0x8580;
const TRUNCATED: u16 = 0x0200;

/// What a name has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An address: a record A or AAAA.
    Address(IpAddr),
    /// Another name: a record CNAME.
    Alias(String),
}

/// The names, and what was asked.
#[derive(Default)]
struct Zone {
    names: BTreeMap<String, Vec<Answer>>,
    asked: Vec<String>,
}

/// A server with one zone at several addresses, over UDP and TCP. Its threads
/// end with the process.
pub struct Dns {
    zone: Arc<Mutex<Zone>>,
}

impl Dns {
    /// Listens in the namespace of the calling thread.
    pub(super) fn start(at: &[Ipv4Addr]) -> Self {
        let zone = Arc::new(Mutex::new(Zone::default()));
        for address in at {
            let at = SocketAddr::from((*address, PORT));
            let (datagrams, streams) =
                (UdpSocket::bind(at).unwrap(), TcpListener::bind(at).unwrap());
            let (one, two) = (Arc::clone(&zone), Arc::clone(&zone));
            let (udp, tcp) = (format!("{address} udp"), format!("{address} tcp"));
            thread::spawn(move || serve_datagrams(&datagrams, &one, &udp));
            thread::spawn(move || serve_streams(&streams, &two, &tcp));
        }
        Self { zone }
    }

    /// Replaces what `name` has.
    pub fn set(&self, name: &str, answers: &[Answer]) {
        self.zone.lock().unwrap().names.insert(name.to_owned(), answers.to_vec());
    }

    /// Replaces what `name` has, with addresses alone.
    pub fn set_addresses(&self, name: &str, addresses: &[IpAddr]) {
        self.set(name, &addresses.iter().map(|ip| Answer::Address(*ip)).collect::<Vec<_>>());
    }

    /// What was asked so far, as `203.0.113.53 udp a name`, from first to last.
    pub fn asked(&self) -> Vec<String> {
        self.zone.lock().unwrap().asked.clone()
    }
}

fn serve_datagrams(socket: &UdpSocket, zone: &Mutex<Zone>, over: &str) {
    let mut buffer = [0; MAX_DATAGRAM];
    loop {
        // An error is of an answer to one who is gone.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if let Some(answer) = answer(&buffer[..length], zone, over) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn serve_streams(listener: &TcpListener, zone: &Arc<Mutex<Zone>>, over: &str) {
    for stream in listener.incoming().flatten() {
        let (zone, over) = (Arc::clone(zone), over.to_owned());
        // Ends when the client is done or says nothing for long.
        thread::spawn(move || serve_stream(stream, &zone, &over));
    }
}

fn serve_stream(mut stream: TcpStream, zone: &Mutex<Zone>, over: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut query)?;
        if let Some(answer) = answer(&query, zone, over) {
            let length = u16::try_from(answer.len()).unwrap();
            stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
        }
    }
}

/// The answer to a query; none to what is no query.
fn answer(query: &[u8], zone: &Mutex<Zone>, over: &str) -> Option<Vec<u8>> {
    let (name, kind, end) = question(query)?;
    let mut zone = zone.lock().unwrap();
    let shown = match kind {
        A => "a".to_owned(),
        AAAA => "aaaa".to_owned(),
        other => format!("type{other}"),
    };
    zone.asked.push(format!("{over} {shown} {name}"));
    let found = records(&zone, &name, kind);
    drop(zone);
    let count = found.as_ref().map_or(0, Vec::len);
    let mut body: Vec<u8> = query[HEADER..end].to_vec();
    body.extend(found.iter().flatten().flatten());
    let too_long = over.ends_with("udp") && HEADER + body.len() > MAX_DATAGRAM;
    if too_long {
        body.truncate(end - HEADER);
    }
    let flags = RESPONSE
        | if too_long { TRUNCATED } else { 0 }
        | if found.is_none() { NO_SUCH_NAME } else { 0 };
    let count = if too_long { 0 } else { u16::try_from(count).unwrap() };
    let mut answer = query[..2].to_vec();
    for field in [flags, 1, count, 0, 0] {
        answer.extend(field.to_be_bytes());
    }
    answer.extend(body);
    Some(answer)
}

/// Name, in lower case, and type that are asked for, and where that ends.
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = vec![];
    let mut at = HEADER;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?);
    query.get(at + 2..at + 4)?;
    Some((labels.join("."), kind, at + 4))
}

/// The aliases from `name` on, and what the last has of this type; none if
/// there is no such name.
fn records(zone: &Zone, name: &str, kind: u16) -> Option<Vec<Vec<u8>>> {
    let (mut found, mut name) = (vec![], name.to_owned());
    for _ in 0..MAX_ALIASES {
        let answers = zone.names.get(&name);
        // What an alias leads to may be missing; the alias is there.
        let Some(answers) = answers else { return (!found.is_empty()).then_some(found) };
        let mut next = None;
        for answer in answers {
            match answer {
                Answer::Alias(to) => {
                    found.push(record(&name, CNAME, &wire(to)));
                    next = Some(to.clone());
                }
                Answer::Address(IpAddr::V4(ip)) if kind == A => {
                    found.push(record(&name, A, &ip.octets()));
                }
                Answer::Address(IpAddr::V6(ip)) if kind == AAAA => {
                    found.push(record(&name, AAAA, &ip.octets()));
                }
                Answer::Address(_) => {}
            }
        }
        match next {
            Some(next) => name = next,
            None => break,
        }
    }
    Some(found)
}

fn record(name: &str, kind: u16, data: &[u8]) -> Vec<u8> {
    let mut record = wire(name);
    record.extend(kind.to_be_bytes());
    record.extend(INTERNET.to_be_bytes());
    record.extend(TTL.to_be_bytes());
    record.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    record.extend(data);
    record
}

fn wire(name: &str) -> Vec<u8> {
    let mut bytes = vec![];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}
