use super::message::MAX_MESSAGE;
use super::observer::{Blocked, FromGuest, FromServer};

/// Most bytes that wait for the rest of their message: one message and its
/// length. A peer that never ends a message costs no more.
const MAX_PENDING: usize = 2 + MAX_MESSAGE;

/// What comes out of a piece of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// What goes on to the server.
    pub to_server: Vec<u8>,
    /// What goes to the guest.
    pub to_guest: Vec<u8>,
    /// Queries that were answered in the server's stead; their answers are in
    /// `to_guest`.
    pub blocked: Vec<Blocked>,
}

/// DNS over a TCP connection (RFC 7766): messages with their length before
/// them, in both directions, as many as one likes and answered in any order.
///
/// Nothing is passed on before its message is whole, so half a query tells the
/// server nothing.
#[derive(Debug, Default)]
pub struct Stream {
    guest: Vec<u8>,
    remote: Vec<u8>,
}

impl Stream {
    /// Takes bytes of the guest, whose messages are judged one by one.
    pub fn from_guest(
        &mut self,
        bytes: &[u8],
        mut judge: impl FnMut(&[u8]) -> FromGuest,
    ) -> Passed {
        let mut passed = Passed::default();
        cut(&mut self.guest, bytes, |message| match judge(message) {
            FromGuest::Forward => frame(&mut passed.to_server, message),
            FromGuest::Drop => {}
            FromGuest::Block(blocked) => {
                frame(&mut passed.to_guest, &blocked.answer);
                passed.blocked.push(blocked);
            }
        });
        passed
    }

    /// Takes bytes of the server, whose messages are judged one by one.
    pub fn from_server(
        &mut self,
        bytes: &[u8],
        mut judge: impl FnMut(&[u8]) -> FromServer,
    ) -> Passed {
        let mut passed = Passed::default();
        cut(&mut self.remote, bytes, |message| match judge(message) {
            FromServer::Deliver => frame(&mut passed.to_guest, message),
            FromServer::Replace(other) => frame(&mut passed.to_guest, &other),
            FromServer::Drop => {}
        });
        passed
    }

    /// Bytes that wait for the rest of their message, of both sides.
    pub fn pending(&self) -> usize {
        self.guest.len() + self.remote.len()
    }
}

/// Hands on every message that is whole and keeps the rest.
fn cut(pending: &mut Vec<u8>, bytes: &[u8], mut each: impl FnMut(&[u8])) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let wanted = missing(pending);
        let (taken, after) = rest.split_at(wanted.min(rest.len()));
        pending.extend_from_slice(taken);
        debug_assert!(pending.len() <= MAX_PENDING);
        rest = after;
        if missing(pending) == 0 {
            each(pending.get(2..).unwrap_or_default());
            pending.clear();
        }
    }
    if pending.is_empty() {
        // An idle connection costs nothing.
        *pending = vec![];
    }
}

/// How many bytes are missing from the length or from the message.
fn missing(pending: &[u8]) -> usize {
    match pending {
        [high, low, message @ ..] => usize::from(u16::from_be_bytes([*high, *low])) - message.len(),
        short => 2 - short.len(),
    }
}

fn frame(out: &mut Vec<u8>, message: &[u8]) {
    // No message here is longer than one that came with a length.
    let length = u16::try_from(message.len()).unwrap_or_default();
    out.extend(length.to_be_bytes());
    out.extend(message);
}
