//! The packet header (virtio 1.2 section 5.10.6).

/// Bytes of a header.
pub const HEADER: usize = 44;
/// Context id of the host.
pub const HOST_CID: u64 = 2;
/// `VIRTIO_VSOCK_TYPE_STREAM`.
pub const STREAM: u16 = 1;
/// SHUTDOWN: the sender will receive nothing more.
pub const SHUT_RECEIVE: u32 = 1;
/// SHUTDOWN: the sender will send nothing more.
pub const SHUT_SEND: u32 = 2;
/// Both.
pub const SHUT_BOTH: u32 = SHUT_RECEIVE | SHUT_SEND;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Op {
    /// Asks for a connection.
    Request = 1,
    /// Grants it.
    Response = 2,
    /// Refuses or ends it.
    Reset = 3,
    /// Ends a direction, by the flags.
    Shutdown = 4,
    /// Carries data.
    Data = 5,
    /// Tells credit.
    CreditUpdate = 6,
    /// Requests a credit update.
    CreditRequest = 7,
}

impl Op {
    /// By its number.
    pub fn from_number(number: u16) -> Option<Op> {
        use Op::*;
        let all = [Request, Response, Reset, Shutdown, Data, CreditUpdate, CreditRequest];
        all.into_iter().find(|op| *op as u16 == number)
    }
}

/// A header as it is in the packet; nothing is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Context id of the sender.
    pub src_cid: u64,
    /// Context id of the receiver.
    pub dst_cid: u64,
    /// Port of the sender.
    pub src_port: u32,
    /// Port of the receiver.
    pub dst_port: u32,
    /// Bytes of data that follow.
    pub len: u32,
    /// Type of socket.
    pub kind: u16,
    /// Number of an [`Op`].
    pub op: u16,
    /// Of the operation.
    pub flags: u32,
    /// Bytes that the sender's receive buffer holds when empty.
    pub buf_alloc: u32,
    /// Bytes that the sender has taken out of it, ever, modulo 2^32.
    pub fwd_cnt: u32,
}

impl Header {
    /// Reads the little-endian layout of the specification.
    pub fn parse(bytes: &[u8; HEADER]) -> Self {
        let long = |at: usize| u64::from_le_bytes(take(bytes, at));
        let word = |at: usize| u32::from_le_bytes(take(bytes, at));
        let half = |at: usize| u16::from_le_bytes(take(bytes, at));
        Self {
            src_cid: long(0),
            dst_cid: long(8),
            src_port: word(16),
            dst_port: word(20),
            len: word(24),
            kind: half(28),
            op: half(30),
            flags: word(32),
            buf_alloc: word(36),
            fwd_cnt: word(40),
        }
    }

    /// Writes the little-endian layout of the specification.
    pub fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut put = |at: usize, field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
        };
        put(0, &self.src_cid.to_le_bytes());
        put(8, &self.dst_cid.to_le_bytes());
        put(16, &self.src_port.to_le_bytes());
        put(20, &self.dst_port.to_le_bytes());
        put(24, &self.len.to_le_bytes());
        put(28, &self.kind.to_le_bytes());
        put(30, &self.op.to_le_bytes());
        put(32, &self.flags.to_le_bytes());
        put(36, &self.buf_alloc.to_le_bytes());
        put(40, &self.fwd_cnt.to_le_bytes());
        bytes
    }
}

fn take<const N: usize>(bytes: &[u8; HEADER], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}
