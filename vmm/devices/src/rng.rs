//! Entropy device (virtio 1.2 section 5.4): fills each buffer from the
//! host's random number generator.

use rustix::rand::{GetRandomFlags, getrandom};
use sandbox_vm_spec::devices::DeviceKind;

use crate::{Chain, Device, DeviceError, Memory, QueueIo, Signals};

/// Most bytes given for one request, so that one of gigabytes does not keep
/// the device and a host CPU busy. The driver asks again for the rest.
const MAX_REQUEST: u32 = 64 * 1024;
/// Bytes taken from the host at once.
const BLOCK: usize = 256;

/// The entropy device.
#[derive(Debug, Default)]
pub struct Rng;

impl Rng {
    /// Reads of the host's generator, which never block once the host is up.
    pub fn new() -> Self {
        Self
    }

    fn fill(chain: &Chain, memory: &Memory) -> Result<u32, DeviceError> {
        let mut writer = chain.writer(memory);
        while writer.left() > 0 && writer.written() < MAX_REQUEST {
            let mut block = [0; BLOCK];
            let block = &mut block[..BLOCK.min(writer.left() as usize)];
            let host = |what| move |source| DeviceError::Host { what, source };
            random(block).map_err(host("cannot read random bytes from the host"))?;
            writer.write_all(block).map_err(host("cannot write to guest memory"))?;
        }
        Ok(writer.written())
    }
}

/// Fills `block`, of at most 256 bytes, with random numbers.
pub(crate) fn random(block: &mut [u8]) -> std::io::Result<()> {
    // The kernel fills up to 256 bytes completely, whatever signals arrive.
    let filled = getrandom(&mut *block, GetRandomFlags::empty())?;
    if filled == block.len() { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

impl Device for Rng {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Rng
    }

    fn kicked(&mut self, _queue: usize, io: &mut [QueueIo]) -> Result<Signals, DeviceError> {
        for queue in io.iter_mut() {
            queue.answer_all(Self::fill)?;
        }
        Signals::collect(io)
    }
}

#[cfg(test)]
mod tests;
