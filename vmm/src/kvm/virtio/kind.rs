//! What vhost-user does not tell of a device: its type, queues and the size
//! of its config space.

use sandbox_vm_spec::launch::DeviceKind;

/// A kind of device, as its backends in `io` and `fs` make it.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// For people.
    pub name: &'static str,
    /// Device type (virtio 1.2, section 5).
    pub id: u32,
    /// Largest size of each queue.
    pub queue_sizes: &'static [u16],
    /// Bytes of config space.
    pub config_len: u32,
}

/// requestq.
const RNG: Kind = Kind { name: "rng", id: 4, queue_sizes: &[64], config_len: 0 };
/// rx, tx, event; guest_cid.
const VSOCK: Kind = Kind { name: "vsock", id: 19, queue_sizes: &[128, 128, 128], config_len: 8 };
/// receiveq1, transmitq1; mac, status, max_virtqueue_pairs, mtu.
const NET: Kind = Kind { name: "net", id: 1, queue_sizes: &[256, 256], config_len: 12 };
/// requestq; capacity to write_zeroes_may_unmap.
const BLK: Kind = Kind { name: "blk", id: 2, queue_sizes: &[256], config_len: 60 };
/// hiprio, request; tag and num_request_queues.
const FS: Kind = Kind { name: "fs", id: 26, queue_sizes: &[128, 128], config_len: 40 };

impl Kind {
    /// The kind that the launch message names.
    pub fn of(kind: DeviceKind) -> &'static Self {
        match kind {
            DeviceKind::Net => &NET,
            DeviceKind::Blk => &BLK,
            DeviceKind::Rng => &RNG,
            DeviceKind::Vsock => &VSOCK,
            DeviceKind::Fs => &FS,
        }
    }
}
