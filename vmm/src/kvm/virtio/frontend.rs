//! The vhost-user frontend: the messages to one backend, and their order.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use sandbox_vm_spec::devices::DeviceSpec;
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap};

use super::queue::Queue;
use super::{Activation, Shape, Slot};

/// VHOST_USER_F_PROTOCOL_FEATURES: a bit of vhost-user's, not the driver's.
const PROTOCOL_FEATURES: u64 = 1 << 30;
const VERSION_1: u64 = 1 << 32;
/// What a backend may offer to the guest: bits of its kind, indirect
/// descriptors, event index, version 1. Others would need this frontend's help.
const FORWARDED: u64 = 0xff_ffff | 1 << 28 | 1 << 29 | VERSION_1;

/// A backend cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{message} to the backend of the {device} device failed")]
    Exchange { device: &'static str, message: &'static str, source: vhost::Error },
    /// It is not a backend that this frontend can drive.
    #[error(
        "the backend of the {device} device does not offer {feature}; install shim and sandbox-vmm of one version"
    )]
    Lacks { device: &'static str, feature: &'static str },
}

/// The backend of one device.
pub struct Backend {
    kind: &'static DeviceSpec,
    frontend: Frontend,
    acknowledges: bool,
    resets: bool,
    /// Queues that it serves.
    started: Vec<usize>,
}

impl Backend {
    /// A backend at the other end of a connected socket, not spoken to yet.
    pub fn new(kind: &'static DeviceSpec, socket: OwnedFd) -> Self {
        let queues = kind.queue_sizes.len() as u64;
        let frontend = Frontend::from_stream(UnixStream::from(socket), queues);
        Self { kind, frontend, acknowledges: false, resets: false, started: Vec::new() }
    }

    /// What the device is.
    pub fn kind(&self) -> &'static DeviceSpec {
        self.kind
    }

    /// Agrees on the protocol, passes the guest's memory, and learns what the
    /// device is. `step` is called with each message before it is sent.
    pub fn handshake(
        &mut self,
        memory: &GuestMemoryMmap,
        step: &dyn Fn(&'static str),
    ) -> Result<Shape, Error> {
        step("SET_OWNER");
        self.frontend.set_owner().map_err(self.failed("SET_OWNER"))?;
        step("GET_FEATURES");
        let features = self.frontend.get_features().map_err(self.failed("GET_FEATURES"))?;
        self.require(features & PROTOCOL_FEATURES != 0, "vhost-user protocol features")?;
        self.require(features & VERSION_1 != 0, "virtio version 1")?;
        self.agree(step)?;
        step("GET_CONFIG");
        let config = self.config()?;
        step("SET_MEM_TABLE");
        self.share(memory)?;
        let queue_sizes = self.kind.queue_sizes.to_vec();
        Ok(Shape { id: self.kind.id, features: features & FORWARDED, queue_sizes, config })
    }

    fn agree(&mut self, step: &dyn Fn(&'static str)) -> Result<(), Error> {
        step("GET_PROTOCOL_FEATURES");
        let offered =
            self.frontend.get_protocol_features().map_err(self.failed("GET_PROTOCOL_FEATURES"))?;
        let wanted = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::RESET_DEVICE;
        let agreed = offered & wanted;
        step("SET_PROTOCOL_FEATURES");
        self.frontend
            .set_protocol_features(agreed)
            .map_err(self.failed("SET_PROTOCOL_FEATURES"))?;
        self.acknowledges = agreed.contains(VhostUserProtocolFeatures::REPLY_ACK);
        self.resets = agreed.contains(VhostUserProtocolFeatures::RESET_DEVICE);
        let config =
            self.kind.config_len == 0 || agreed.contains(VhostUserProtocolFeatures::CONFIG);
        self.require(config, "its config space")
    }

    fn config(&mut self) -> Result<Vec<u8>, Error> {
        let len = self.kind.config_len;
        if len == 0 {
            return Ok(Vec::new());
        }
        let (_, config) = self
            .frontend
            .get_config(0, len, VhostUserConfigFlags::empty(), &vec![0; len as usize])
            .map_err(self.failed("GET_CONFIG"))?;
        Ok(config)
    }

    fn share(&self, memory: &GuestMemoryMmap) -> Result<(), Error> {
        let regions = memory
            .iter()
            .map(VhostUserMemoryRegionInfo::from_guest_region)
            .collect::<Result<Vec<_>, _>>()
            .map_err(self.failed("SET_MEM_TABLE"))?;
        self.acknowledged(|frontend| frontend.set_mem_table(&regions))
            .map_err(self.failed("SET_MEM_TABLE"))
    }

    /// Starts the queues that the guest has set up. Messages go out without
    /// waiting for an answer to each; the last is acknowledged, and with it
    /// all before.
    pub fn activate(
        &mut self,
        slot: &Slot,
        memory: &GuestMemoryMmap,
        activation: &Activation,
    ) -> Result<(), Error> {
        self.frontend
            .set_features(activation.features | PROTOCOL_FEATURES)
            .map_err(self.failed("SET_FEATURES"))?;
        let ready = activation.queues.iter().enumerate().filter(|(_, q)| q.ready);
        for (index, queue) in ready {
            self.started.push(index);
            self.set_up(slot, memory, index, queue)?;
        }
        let enable = |(position, index): (usize, &usize)| {
            let last = position + 1 == self.started.len();
            self.enable(*index, true, last)
        };
        self.started.iter().enumerate().try_for_each(enable)
    }

    fn set_up(
        &self,
        slot: &Slot,
        memory: &GuestMemoryMmap,
        index: usize,
        queue: &Queue,
    ) -> Result<(), Error> {
        let address = |guest| host_address(memory, guest).ok_or(self.failed("SET_VRING_ADDR"));
        let rings = VringConfigData {
            queue_max_size: queue.max,
            queue_size: queue.size,
            flags: 0,
            desc_table_addr: address(queue.descriptors).map_err(invalid)?,
            used_ring_addr: address(queue.used).map_err(invalid)?,
            avail_ring_addr: address(queue.available).map_err(invalid)?,
            log_addr: None,
        };
        let frontend = &self.frontend;
        frontend.set_vring_num(index, queue.size).map_err(self.failed("SET_VRING_NUM"))?;
        frontend.set_vring_base(index, 0).map_err(self.failed("SET_VRING_BASE"))?;
        frontend.set_vring_addr(index, &rings).map_err(self.failed("SET_VRING_ADDR"))?;
        frontend.set_vring_call(index, &slot.call).map_err(self.failed("SET_VRING_CALL"))?;
        frontend.set_vring_err(index, &slot.error).map_err(self.failed("SET_VRING_ERR"))?;
        let kick = slot.kicks.get(index).ok_or(self.failed("SET_VRING_KICK")).map_err(invalid)?;
        frontend.set_vring_kick(index, kick).map_err(self.failed("SET_VRING_KICK"))
    }

    fn enable(&self, index: usize, on: bool, acknowledged: bool) -> Result<(), Error> {
        let message = |frontend: &mut Frontend| frontend.set_vring_enable(index, on);
        let mut frontend = self.frontend.clone();
        let done = if acknowledged {
            self.acknowledged(|_| message(&mut frontend))
        } else {
            message(&mut frontend)
        };
        done.map_err(self.failed("SET_VRING_ENABLE"))
    }

    /// Stops all queues and makes the device forget the driver. The answer to
    /// GET_VRING_BASE reports that a queue has stopped.
    pub fn reset(&mut self) -> Result<(), Error> {
        for index in std::mem::take(&mut self.started) {
            self.enable(index, false, false)?;
            self.frontend.get_vring_base(index).map_err(self.failed("GET_VRING_BASE"))?;
        }
        if self.resets {
            let mut frontend = self.frontend.clone();
            self.acknowledged(|_| frontend.reset_device()).map_err(self.failed("RESET_DEVICE"))?;
        }
        Ok(())
    }

    /// Sends a message that the backend is asked to acknowledge.
    fn acknowledged<T>(&self, send: impl FnOnce(&Frontend) -> T) -> T {
        if self.acknowledges {
            self.frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        let answer = send(&self.frontend);
        self.frontend.set_hdr_flags(VhostUserHeaderFlag::empty());
        answer
    }

    fn require(&self, offered: bool, feature: &'static str) -> Result<(), Error> {
        if offered { Ok(()) } else { Err(Error::Lacks { device: self.kind.name, feature }) }
    }

    fn failed(&self, message: &'static str) -> impl FnOnce(vhost::Error) -> Error + use<> {
        let device = self.kind.name;
        move |source| Error::Exchange { device, message, source }
    }
}

/// For what [`Activation::fits`] has ruled out.
fn invalid(error: impl FnOnce(vhost::Error) -> Error) -> Error {
    error(vhost::Error::InvalidQueue)
}

/// Where this process has the guest's memory: what vhost-user takes for an
/// address.
fn host_address(memory: &GuestMemoryMmap, guest: u64) -> Option<u64> {
    memory.get_host_address(GuestAddress(guest)).ok().map(|host| host as u64)
}
