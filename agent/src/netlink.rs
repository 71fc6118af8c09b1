//! A netlink socket of the kernel's: one request, and its answers to the end.

use std::io;

use netlink_packet_core::{ErrorBuffer, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer};
use netlink_sys::{Socket, SocketAddr};

/// Bytes read at once. The kernel fills at most 32 KiB of a dump at a time.
const CHUNK: usize = 32 * 1024;

/// See the module.
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

    /// Sends `request` and waits for the kernel to say how it went.
    pub fn done(&mut self, request: &[u8]) -> io::Result<()> {
        self.each(request, &mut |_| {})
    }

    /// Sends `request` and hands the payload of each message of the answer to
    /// `f`. The kernel answers while it is asked: nothing here waits long.
    pub fn each(&mut self, request: &[u8], f: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.socket.send(request, 0)?;
        loop {
            let length = self.socket.recv(&mut &mut self.buffer[..], 0)?;
            let chunk = self.buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
            if read_chunk(chunk, f)? {
                return Ok(());
            }
        }
    }
}

/// Reads the messages of one datagram; says whether the last one is in it.
fn read_chunk(mut chunk: &[u8], f: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
    while !chunk.is_empty() {
        let message = NetlinkBuffer::new_checked(chunk).map_err(io::Error::other)?;
        match message.message_type() {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return outcome(message.payload()).map(|()| true),
            _ => f(message.payload()),
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
mod tests;
