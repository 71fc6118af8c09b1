//! The table of virtio devices. The shim, both engines and the backends derive
//! sockets, launch messages, MMIO slots, queues and QEMU's arguments from it.

use serde::{Deserialize, Serialize};

/// A device of the guest; its entry is [`DeviceKind::spec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Entropy source.
    Rng,
    /// Sockets to the host.
    Vsock,
    /// The pod's share.
    Fs,
    /// Network interface.
    Net,
    /// Disks.
    Blk,
}

/// The process that serves a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// `sandbox-vmm io`.
    Io,
    /// `sandbox-vmm fs`.
    Fs,
}

/// How QEMU connects to the backend of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QemuLink {
    /// By a connected socket (`-chardev socket,fd=`).
    Chardev,
    /// By a path (`-netdev vhost-user`), which takes no connected socket.
    Netdev,
}

/// What a device is made of, for every process that has to do with it.
#[derive(Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Which device.
    pub kind: DeviceKind,
    /// Name in logs, errors and socket paths.
    pub name: &'static str,
    /// Device type (virtio 1.2, section 5).
    pub id: u32,
    /// The process that serves it.
    pub server: Server,
    /// Sizes of the queues that the kvm engine offers the driver. Each backend
    /// takes [`MAX_QUEUE_SIZE`].
    pub queue_sizes: &'static [u16],
    /// Bytes of config space.
    pub config_len: u32,
    /// How QEMU connects to the backend.
    pub qemu_link: QemuLink,
    /// Model and constant properties in QEMU's `-device`.
    pub qemu_device: &'static str,
}

/// Largest queue of a backend: QEMU's virtio-mmio offers it for any queue.
pub const MAX_QUEUE_SIZE: u16 = 1024;

/// All devices of a machine, in the order of their MMIO slots.
pub static DEVICES: [DeviceSpec; 5] = [
    DeviceSpec {
        kind: DeviceKind::Rng,
        name: "rng",
        id: 4,
        server: Server::Io,
        // requestq.
        queue_sizes: &[64],
        config_len: 0,
        qemu_link: QemuLink::Chardev,
        qemu_device: "vhost-user-rng",
    },
    DeviceSpec {
        kind: DeviceKind::Vsock,
        name: "vsock",
        id: 19,
        server: Server::Io,
        // rx, tx, event.
        queue_sizes: &[128, 128, 128],
        // guest_cid.
        config_len: 8,
        qemu_link: QemuLink::Chardev,
        qemu_device: "vhost-user-vsock-device",
    },
    DeviceSpec {
        kind: DeviceKind::Fs,
        name: "fs",
        id: 26,
        server: Server::Fs,
        // hiprio, request.
        queue_sizes: &[128, 128],
        // tag, num_request_queues.
        config_len: 40,
        qemu_link: QemuLink::Chardev,
        qemu_device: "vhost-user-fs-device,queue-size=1024",
    },
    DeviceSpec {
        kind: DeviceKind::Net,
        name: "net",
        id: 1,
        server: Server::Io,
        // receiveq1, transmitq1.
        queue_sizes: &[256, 256],
        // mac, status, max_virtqueue_pairs, mtu.
        config_len: 12,
        qemu_link: QemuLink::Netdev,
        // Off is what QEMU would offer beside the backend and answer itself.
        qemu_device: "virtio-net-device,ctrl_vq=off,ctrl_rx=off,ctrl_vlan=off,\
            ctrl_rx_extra=off,ctrl_mac_addr=off,ctrl_guest_offloads=off,guest_announce=off,\
            guest_ecn=off,host_ecn=off,guest_ufo=off,host_ufo=off",
    },
    DeviceSpec {
        kind: DeviceKind::Blk,
        name: "blk",
        id: 2,
        server: Server::Io,
        // requestq.
        queue_sizes: &[256],
        // capacity to write_zeroes_may_unmap.
        config_len: 60,
        qemu_link: QemuLink::Chardev,
        // The backend has one queue, and no write cache that the guest may
        // turn off.
        qemu_device: "vhost-user-blk,num-queues=1,config-wce=off,queue-size=256",
    },
];

impl DeviceKind {
    /// The device's entry in the table.
    pub fn spec(self) -> &'static DeviceSpec {
        &DEVICES[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_in_the_order_of_the_table() {
        for device in &DEVICES {
            assert_eq!(device.kind.spec(), device);
        }
    }
}
