//! What the device says of itself (virtio 1.2 sections 5.2.3 and 5.2.4).

use sandbox_vm_spec::disks::{MAX_DISKS, SECTOR, SPAN};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_WRITE_ZEROES,
};

/// Bytes of `struct virtio_blk_config`, up to what these features have in it.
pub const LEN: usize = 60;

/// FLUSH without CONFIG_WCE: what is written is safe once it was flushed.
pub const FEATURES: u64 = 1 << VIRTIO_BLK_F_SEG_MAX
    | 1 << VIRTIO_BLK_F_BLK_SIZE
    | 1 << VIRTIO_BLK_F_FLUSH
    | 1 << VIRTIO_BLK_F_DISCARD
    | 1 << VIRTIO_BLK_F_WRITE_ZEROES;

/// Buffers of a request beside its header and its status: with what Linux
/// puts into each, a request is a megabyte or so.
const SEGMENTS: u32 = 254;
/// Sectors of one discard or of one request to write zeros: 1 GiB. They take a
/// system call of the host, during which the device does nothing else.
pub const MAX_ERASED: u32 = 1 << 21;

/// The config space.
pub fn space() -> [u8; LEN] {
    let mut space = [0; LEN];
    let mut put = |at: usize, bytes: &[u8]| space[at..at + bytes.len()].copy_from_slice(bytes);
    let capacity = (u64::from(MAX_DISKS) + 1) * (SPAN / SECTOR);
    put(0, &capacity.to_le_bytes());
    put(12, &SEGMENTS.to_le_bytes());
    put(20, &(SECTOR as u32).to_le_bytes());
    // One queue.
    put(34, &1u16.to_le_bytes());
    // max_discard_sectors, max_discard_seg, discard_sector_alignment.
    put(36, &MAX_ERASED.to_le_bytes());
    put(40, &1u32.to_le_bytes());
    put(44, &1u32.to_le_bytes());
    // max_write_zeroes_sectors, max_write_zeroes_seg, write_zeroes_may_unmap.
    put(48, &MAX_ERASED.to_le_bytes());
    put(52, &1u32.to_le_bytes());
    put(56, &[1]);
    space
}
