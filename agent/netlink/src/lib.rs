//! A socket to the kernel's netlink: one request, and its answer to the end.
//!
//! The agent and the runtime share it. `rtnetlink` is a client for a tokio task
//! and a channel; both callers ask a few questions from one thread, the runtime
//! from a thread that has entered a pod's network namespace, and the agent asks
//! `NETLINK_SOCK_DIAG`, too, which `rtnetlink` does not.

use std::io;

use netlink_packet_core::{
    ErrorBuffer, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkMessage,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr};

/// Bytes read at once. The kernel fills at most 32 KiB of a dump at a time.
const CHUNK: usize = 32 * 1024;

/// `NLMSG_MIN_TYPE`: lower types are of netlink itself.
const MIN_TYPE: u16 = 0x10;

/// Receives the type and the payload of each message of an answer; an error ends
/// the answer.
pub type Reader<'a> = &'a mut dyn FnMut(u16, &[u8]) -> io::Result<()>;

/// See the crate.
pub struct Netlink {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket for `protocol`, one of `netlink_sys::protocols`.
    pub fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        // To the kernel, and so from it alone.
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, buffer: vec![0; CHUNK] })
    }

    /// Sends `request` and waits for the kernel's acknowledgement.
    pub fn done(&mut self, request: &[u8]) -> io::Result<()> {
        self.each(request, &mut |_, _| Ok(()))
    }

    /// Sends `request` and hands each message of the answer to `reader`. The
    /// kernel answers while it is asked: nothing here waits long.
    pub fn each(&mut self, request: &[u8], reader: Reader) -> io::Result<()> {
        self.socket.send(request, 0)?;
        loop {
            let length = self.socket.recv(&mut &mut self.buffer[..], 0)?;
            let chunk = self.buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
            if read_chunk(chunk, reader)? {
                return Ok(());
            }
        }
    }
}

/// The bytes of an rtnetlink request with `flags` (`NLM_F_...`).
pub fn route_request(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Reads the messages of one datagram; returns true when it has the last one.
fn read_chunk(mut chunk: &[u8], reader: Reader) -> io::Result<bool> {
    while !chunk.is_empty() {
        let message = NetlinkBuffer::new_checked(chunk).map_err(io::Error::other)?;
        match message.message_type() {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return outcome(message.payload()).map(|()| true),
            kind if kind >= MIN_TYPE => reader(kind, message.payload())?,
            _ => {}
        }
        let aligned = (message.length() as usize).next_multiple_of(4);
        chunk = chunk.get(aligned..).unwrap_or_default();
    }
    Ok(false)
}

fn outcome(payload: &[u8]) -> io::Result<()> {
    let error = ErrorBuffer::new_checked(payload).map_err(io::Error::other)?;
    match error.code() {
        None => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.get().saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const EEXIST: i32 = 17;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = 16 + payload.len() as u32;
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn read(chunk: &[u8]) -> (io::Result<bool>, Vec<Vec<u8>>) {
        let mut seen = Vec::new();
        let ended = read_chunk(chunk, &mut |_, payload| {
            seen.push(payload.to_vec());
            Ok(())
        });
        (ended, seen)
    }

    #[test]
    fn messages_come_one_by_one_up_to_the_end() {
        let chunk = [message(20, b"a"), message(20, b"bcdef")].concat();
        let (ended, seen) = read(&chunk);
        assert!(!ended.unwrap());
        assert_eq!(seen, [b"a".to_vec(), b"bcdef".to_vec()]);
        let chunk = [message(20, b"a"), message(NLMSG_DONE, &[0; 4]), message(20, b"b")].concat();
        let (ended, seen) = read(&chunk);
        assert!(ended.unwrap());
        assert_eq!(seen, [b"a".to_vec()]);
    }

    #[test]
    fn an_acknowledgement_is_an_end_and_an_error_has_its_number() {
        let answer =
            |code: i32| message(NLMSG_ERROR, &[&code.to_ne_bytes()[..], &[0; 16]].concat());
        assert!(read(&answer(0)).0.unwrap());
        let error = read(&answer(-EEXIST)).0.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(EEXIST));
        assert!(read(&answer(i32::MIN)).0.is_err());
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let whole = [message(20, b"abcd"), message(NLMSG_DONE, &[0; 4])].concat();
        for length in (1..whole.len()).filter(|length| *length != 20) {
            assert!(read(&whole[..length]).0.is_err(), "{length}");
        }
        let mut long = message(20, b"abcd");
        long[0] = 200;
        assert!(read(&long).0.is_err());
        long[0] = 3;
        assert!(read(&long).0.is_err());
    }

    #[test]
    fn an_error_of_the_reader_ends_the_answer() {
        let chunk = [message(20, b"a"), message(NLMSG_DONE, &[0; 4])].concat();
        assert!(read_chunk(&chunk, &mut |_, _| Err(io::Error::other("enough"))).is_err());
    }
}
