use std::num::Wrapping;

use super::header::Header;

/// Bytes that the guest may have on their way to a host socket that takes
/// none: the most that is held for a connection.
pub const WINDOW: u32 = 128 * 1024;

/// Flow control of one connection, in both directions (virtio 1.2 section
/// 5.10.6.3). Counters are modulo 2^32.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credit {
    /// From the guest: bytes that it sent, that the host socket took, and of
    /// these the ones that it knows of.
    received: Wrapping<u32>,
    forwarded: Wrapping<u32>,
    reported: Wrapping<u32>,
    /// To the guest: bytes sent, taken by its application as far as it said,
    /// and the size of its buffer.
    sent: Wrapping<u32>,
    taken: Wrapping<u32>,
    buffer: u32,
}

impl Credit {
    /// Takes what every packet of the guest says.
    pub fn learn(&mut self, header: &Header) {
        self.buffer = header.buf_alloc;
        self.taken = Wrapping(header.fwd_cnt);
    }

    /// Fills in what every packet to the guest says.
    pub fn tell(&mut self, header: &mut Header) {
        header.buf_alloc = WINDOW;
        header.fwd_cnt = self.forwarded.0;
        self.reported = self.forwarded;
    }

    /// Bytes that may be sent to the guest. None if it claims to have taken
    /// more than it was sent.
    pub fn room_in_guest(&self) -> u32 {
        self.buffer.saturating_sub((self.sent - self.taken).0)
    }

    /// Bytes that the guest may send.
    pub fn room_on_host(&self) -> u32 {
        WINDOW.saturating_sub((self.received - self.forwarded).0)
    }

    /// `len` bytes were sent to the guest.
    pub fn sent(&mut self, len: u32) {
        self.sent += Wrapping(len);
    }

    /// `len` bytes came from the guest, which [`room_on_host`](Self::room_on_host)
    /// allows.
    pub fn received(&mut self, len: u32) {
        self.received += Wrapping(len);
    }

    /// The host socket took `len` bytes.
    pub fn forwarded(&mut self, len: u32) {
        self.forwarded += Wrapping(len);
    }

    /// Whether the credit that the guest knows is less than half a window, and
    /// its real credit is more.
    pub fn update_is_due(&self) -> bool {
        let known = WINDOW.saturating_sub((self.received - self.reported).0);
        self.forwarded != self.reported && known < WINDOW / 2
    }

    /// A connection that is about to wrap all its counters.
    #[cfg(test)]
    pub fn near_wraparound() -> Self {
        let near = Wrapping(u32::MAX - 5);
        Self { received: near, forwarded: near, reported: near, sent: near, taken: near, buffer: 0 }
    }
}
