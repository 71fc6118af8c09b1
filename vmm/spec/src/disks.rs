//! Disks: files and block devices of the host, as parts of the guest's one
//! block device.
//!
//! A machine has as many devices as it was started with, and containers come
//! later. So the block device is there from the start, as large as all disks
//! that there may be: disk N is what begins at [`start`]`(N)`. The guest's agent
//! makes a partition of it, with the number N, on the shim's request.
//!
//! The shim sends requests to `io` on a `SOCK_SEQPACKET` socket pair. A packet
//! is a [`Request`] or a [`Reply`] in JSON; [`Request::Attach`] carries the
//! disk's descriptor.

use serde::{Deserialize, Serialize};

/// The block device's serial number, by which the agent finds it.
pub const SERIAL: &str = "sandbox-disks";
/// Unit of the block device, and of every disk's length.
pub const SECTOR: u64 = 512;
/// Most disks at a time: Linux makes 255 partitions of a device. Their numbers
/// begin with 1.
pub const MAX_DISKS: u16 = 255;
/// Bytes that each disk has in the block device, and so the longest: 16 TiB.
pub const SPAN: u64 = 1 << 44;
/// Longest packet.
pub const MAX_PACKET: usize = 4096;

/// First byte of disk `number` in the block device. Before the first is
/// nothing but zeros, where Linux looks for a partition table.
pub fn start(number: u16) -> u64 {
    u64::from(number) * SPAN
}

/// The disk that a byte of the block device is in, and where in it.
pub fn find(byte: u64) -> (u64, u64) {
    (byte / SPAN, byte % SPAN)
}

/// A disk, beside its descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// 1 to [`MAX_DISKS`], and not that of another one.
    pub number: u16,
    /// Its length, a multiple of [`SECTOR`].
    pub bytes: u64,
    /// Whether the guest can only read it.
    pub read_only: bool,
}

/// A request of the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Attach a disk.
    Attach(Disk),
    /// Close the disk of this number. What it is asked for from then on fails.
    Detach(u16),
}

/// The reply of `io`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// The request succeeded.
    Done,
    /// The request failed; the reason.
    Failed(String),
}
