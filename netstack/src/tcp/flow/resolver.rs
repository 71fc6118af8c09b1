//! DNS over TCP with a pinned server: every message passes the observer, both
//! ways, and none before it is whole.

use smoltcp::time::Instant;

use super::Connection;
use crate::dns::{self, Channel, Passed};
use crate::env::{Ends, Witness};
use crate::host::{Errno, Stream};
use crate::policy::{Policy, Protocol};
use crate::tcp::endpoint::{Endpoint, Received};

/// Bytes taken of either side at once.
const PIECE: usize = 16 * 1024;

/// Bytes for the guest at which nothing more is taken of it: it asks for what
/// is answered here, and does not read the answers.
const HELD: usize = 64 * 1024;

/// Bytes moved before the next flow has its turn.
const BYTES: usize = 256 * 1024;

/// Judges messages.
pub struct Judge<'a> {
    /// The observer is behind it.
    pub witness: &'a mut dyn Witness,
    /// What it goes by.
    pub policy: &'a Policy,
    /// The time.
    pub now: Instant,
}

/// What is between the two ends of a connection for DNS.
pub struct Resolver {
    stream: dns::Stream,
    channel: Channel,
    ends: Ends,
    to_server: Vec<u8>,
    to_guest: Vec<u8>,
    guest_ended: bool,
    server_ended: bool,
    /// The last turn ended for its budget alone.
    pub again: bool,
}

impl Resolver {
    /// For a connection to this server; no other connection uses the channel.
    pub fn new(channel: Channel, ends: Ends) -> Self {
        Self {
            stream: dns::Stream::default(),
            channel,
            ends,
            to_server: Vec::new(),
            to_guest: Vec::new(),
            guest_ended: false,
            server_ended: false,
            again: false,
        }
    }

    /// The channel to close when the connection ends.
    pub fn channel(&self) -> Channel {
        self.channel
    }

    fn ask(&mut self, judge: &mut Judge<'_>, bytes: &[u8]) {
        let (channel, ends) = (self.channel, self.ends);
        let passed = self.stream.from_guest(bytes, |message| {
            judge.witness.query(judge.policy, channel, ends.remote, message, judge.now)
        });
        for blocked in &passed.blocked {
            judge.witness.blocked(ends, Protocol::Tcp, blocked, judge.now);
        }
        self.pass(passed);
    }

    fn answer(&mut self, judge: &mut Judge<'_>, bytes: &[u8]) {
        let (channel, server) = (self.channel, self.ends.remote);
        let passed = self.stream.from_server(bytes, |message| {
            judge.witness.answer(judge.policy, channel, server, message, judge.now)
        });
        self.pass(passed);
    }

    fn pass(&mut self, passed: Passed) {
        self.to_server.extend(passed.to_server);
        self.to_guest.extend(passed.to_guest);
    }

    /// Takes of the guest what there is; how much.
    fn take_guest(&mut self, judge: &mut Judge<'_>, endpoint: &mut Endpoint) -> usize {
        if self.guest_ended || !self.to_server.is_empty() || self.to_guest.len() >= HELD {
            return 0;
        }
        let read = endpoint.read(|bytes| {
            let piece = bytes.get(..PIECE.min(bytes.len())).unwrap_or_default();
            self.ask(judge, piece);
            (piece.len(), piece.len())
        });
        self.guest_ended = read == Received::End;
        if let Received::Bytes(length) = read { length } else { 0 }
    }

    /// Gives the guest what is for it; how much.
    fn give_guest(&mut self, endpoint: &mut Endpoint) -> usize {
        if self.to_guest.is_empty() {
            return 0;
        }
        let given = endpoint.write(|room| {
            let length = room.len().min(self.to_guest.len());
            for (place, byte) in room.iter_mut().zip(self.to_guest.drain(..length)) {
                *place = byte;
            }
            (length, length)
        });
        given.unwrap_or(0)
    }

    /// Takes of the server what there is.
    fn take_server<S: Stream>(
        &mut self,
        judge: &mut Judge<'_>,
        stream: &mut S,
    ) -> Result<usize, Errno> {
        if self.server_ended || !self.to_guest.is_empty() {
            return Ok(0);
        }
        let mut piece = [0; PIECE];
        let length = stream.read(&mut piece)?;
        self.server_ended = length == 0;
        self.answer(judge, piece.get(..length).unwrap_or_default());
        Ok(length)
    }

    /// Gives the server what is for it.
    fn give_server<S: Stream>(&mut self, stream: &mut S) -> Result<usize, Errno> {
        if self.to_server.is_empty() {
            return Ok(0);
        }
        let length = stream.write(&self.to_server)?;
        self.to_server.drain(..length.min(self.to_server.len()));
        Ok(length)
    }
}

impl<S: Stream> Connection<S> {
    /// Moves what can be moved, where messages are observed.
    pub(super) fn pump_observed(&mut self, judge: &mut Judge<'_>) {
        let Some(mut resolver) = self.resolver.take() else { return };
        let mut moved = 0;
        resolver.again = loop {
            let piece = self.pump_pieces(&mut resolver, judge);
            moved += piece;
            if piece == 0 || moved >= BYTES {
                break piece != 0;
            }
        };
        self.resolver = Some(resolver);
    }

    /// One piece of each kind; how much that was.
    fn pump_pieces(&mut self, resolver: &mut Resolver, judge: &mut Judge<'_>) -> usize {
        let Some(stream) = self.stream.as_mut() else { return 0 };
        let mut moved = resolver.take_guest(judge, &mut self.endpoint);
        if self.writable && self.failed.is_none() {
            match resolver.give_server(stream) {
                Ok(length) => {
                    self.sent += u64::try_from(length).unwrap_or(0);
                    moved += length;
                }
                Err(Errno::AGAIN) => self.writable = false,
                Err(Errno::INTR) => moved += 1,
                Err(error) => self.failed = Some(error),
            }
        }
        if resolver.guest_ended && resolver.to_server.is_empty() && !self.finished {
            self.finished = true;
            // An error means that the other end is gone: a read reports it.
            let _ = stream.finish();
        }
        if (self.readable || self.closing) && !self.ended {
            match resolver.take_server(judge, stream) {
                Ok(length) => moved += length,
                Err(Errno::AGAIN) => (self.readable, self.closing) = (false, false),
                Err(Errno::INTR) => moved += 1,
                Err(error) => {
                    self.failed = Some(self.failed.unwrap_or(error));
                    self.ended = true;
                }
            }
        }
        let given = resolver.give_guest(&mut self.endpoint);
        self.received += u64::try_from(given).unwrap_or(0);
        if resolver.server_ended && resolver.to_guest.is_empty() && !self.ended {
            self.ended = true;
            if self.failed.is_none() {
                self.endpoint.close();
            }
        }
        moved + given
    }
}
