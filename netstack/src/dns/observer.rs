use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::answer::{self, Reading};
use super::bindings::Bindings;
use super::message::{Message, refusal};
use super::open::{Channel, Key, Open};
use crate::policy::{BlockAnswer, Ground, Known, Name, Names, Policy};

/// Codes of answers (RFC 1035, section 4.1.1).
mod code {
    pub const NAME_ERROR: u16 = 3;
    pub const REFUSED: u16 = 5;
}

/// A query that was answered in the server's stead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// What the guest gets.
    pub answer: Vec<u8>,
    /// What it asked for.
    pub name: Name,
    /// What the refusal rests on.
    pub ground: Ground,
}

/// What becomes of a message of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromGuest {
    /// It goes on as it is.
    Forward,
    /// It goes no further.
    Block(Blocked),
    /// It goes no further and has no answer: it is no query that could be
    /// judged, or too many wait.
    Drop,
}

/// What becomes of a message of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromServer {
    /// It goes on as it is.
    Deliver,
    /// This goes on in its place: it had something that the guest must not get.
    Replace(Vec<u8>),
    /// It goes no further: it answers nothing that was asked.
    Drop,
}

/// What was refused and dropped, and what was learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Queries that were passed on.
    pub forwarded: u64,
    /// Queries for names that nothing could allow.
    pub blocked: u64,
    /// Queries that are none.
    pub bad_queries: u64,
    /// Queries for which there was no room.
    pub crowded: u64,
    /// Answers that fit no open question, or are none.
    pub bad_answers: u64,
    /// Answers that were cut short and so taught nothing.
    pub truncated: u64,
    /// Addresses that were taken out of answers.
    pub stripped: u64,
    /// Names that were learnt for an address.
    pub learnt: u64,
    /// Names for which there was no room.
    pub unlearnt: u64,
}

/// Watches what goes between the guest and the pinned servers.
#[derive(Debug, Default)]
pub struct Observer {
    open: Open,
    bindings: Bindings,
    counters: Counters,
}

impl Observer {
    /// With nothing learnt.
    pub fn new() -> Self {
        Self::default()
    }

    /// Judges a message of the guest to a pinned server. The caller has a
    /// permit for the way there.
    pub fn from_guest(
        &mut self,
        policy: &Policy,
        channel: Channel,
        server: SocketAddr,
        message: &[u8],
        now: Duration,
    ) -> FromGuest {
        let query = match Message::read(message) {
            Ok(query) if !query.is_response() => query,
            // What cannot be judged is of no harm where names open nothing.
            _ => {
                self.counters.bad_queries += 1;
                return if policy.uses_names() { FromGuest::Drop } else { FromGuest::Forward };
            }
        };
        let known = Known::plain(query.question.name.clone());
        if let Err(ground) = policy.may_ask(&known) {
            self.counters.blocked += 1;
            return FromGuest::Block(blocked(policy, &query, ground));
        }
        let key = Key { channel, server, id: query.id, question: query.question.clone() };
        if !self.open.add(key, now) {
            self.counters.crowded += 1;
            return FromGuest::Drop;
        }
        self.counters.forwarded += 1;
        FromGuest::Forward
    }

    /// Judges a message of a pinned server, and learns from it. What is learnt
    /// holds before the guest has the answer.
    pub fn from_server(
        &mut self,
        policy: &Policy,
        channel: Channel,
        server: SocketAddr,
        message: &[u8],
        now: Duration,
    ) -> FromServer {
        let Some(answer) = self.fitting(channel, server, message, now) else {
            self.counters.bad_answers += 1;
            return if policy.uses_names() { FromServer::Drop } else { FromServer::Deliver };
        };
        if answer.is_truncated() {
            self.counters.truncated += 1;
            return FromServer::Deliver;
        }
        let Ok(reading) = answer::read(&answer) else {
            self.counters.bad_answers += 1;
            return if policy.uses_names() { FromServer::Drop } else { FromServer::Deliver };
        };
        self.judge(policy, &answer, &reading, now)
    }

    /// The names of an address.
    pub fn names(&mut self, address: IpAddr, now: Duration) -> Names {
        self.bindings.names(address, now)
    }

    /// A flow to this address lives, and the address's names with it.
    pub fn hold(&mut self, address: IpAddr) {
        self.bindings.hold(address);
    }

    /// A flow that was [held](Self::hold) has ended.
    pub fn release(&mut self, address: IpAddr) {
        self.bindings.release(address);
    }

    /// A socket of the guest is gone: its questions are void.
    pub fn close(&mut self, channel: Channel) {
        self.open.close(channel);
    }

    /// What was learnt.
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// How many questions wait for an answer.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// What was refused, dropped and learnt.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn fitting<'a>(
        &mut self,
        channel: Channel,
        server: SocketAddr,
        message: &'a [u8],
        now: Duration,
    ) -> Option<Message<'a>> {
        let answer = Message::read(message).ok().filter(Message::is_response)?;
        let key = Key { channel, server, id: answer.id, question: answer.question.clone() };
        self.open.take(&key, now).then_some(answer)
    }

    /// Learns the addresses that may be reached and takes out the others.
    fn judge(
        &mut self,
        policy: &Policy,
        answer: &Message<'_>,
        reading: &Reading,
        now: Duration,
    ) -> FromServer {
        let mut refused = vec![];
        for found in &reading.addresses {
            // Where no rule has names, none is an attack on it.
            if policy.uses_names() && policy.may_reach(found.address, &reading.known).is_err() {
                refused.push(found.record);
                continue;
            }
            let expiry = now + lifetime(policy, found.ttl);
            match self.bindings.learn(found.address, reading.known.clone(), expiry, now) {
                true => self.counters.learnt += 1,
                false => self.counters.unlearnt += 1,
            }
        }
        self.counters.stripped += refused.len() as u64;
        if refused.is_empty() && !(policy.uses_names() && reading.has_hints) {
            return FromServer::Deliver;
        }
        answer::without(answer, &refused).map_or(FromServer::Drop, FromServer::Replace)
    }
}

/// How long a binding holds.
fn lifetime(policy: &Policy, ttl: u32) -> Duration {
    let dns = policy.dns();
    let ttl = ttl.max(dns.min_ttl).min(dns.max_ttl);
    Duration::from_secs(u64::from(ttl) + u64::from(dns.grace))
}

fn blocked(policy: &Policy, query: &Message<'_>, ground: Ground) -> Blocked {
    let code = match policy.dns().block_answer {
        BlockAnswer::Nxdomain => code::NAME_ERROR,
        BlockAnswer::Refused => code::REFUSED,
    };
    Blocked { answer: refusal(query, code), name: query.question.name.clone(), ground }
}
