//! A tap device, whose kernel side is the guest's interface.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, readv, writev};
use rustix::ioctl::{Setter, ioctl, opcode};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sandbox_netstack::port::{
    Capabilities, Offload, Port, Received, VNET_HEADER, emit_vnet, parse_vnet,
};

use crate::failure::Failure;

/// `struct ifreq`, as far as it is used here.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    unused: [u8; 22],
}

const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
const TUN_F_CSUM: usize = 1;
const TUN_F_TSO4: usize = 2;
const TUN_F_TSO6: usize = 4;

const TUNSETIFF: u32 = opcode::write::<i32>(b'T', 202);
const TUNSETOFFLOAD: u32 = opcode::write::<u32>(b'T', 208);
const TUNSETVNETHDRSZ: u32 = opcode::write::<i32>(b'T', 216);

/// The device's frames.
pub struct Tap {
    fd: OwnedFd,
    /// There may be frames that were not read.
    readable: bool,
    /// Frames that carried a lie about their offload, or found the device down.
    pub dropped: u64,
}

impl Tap {
    /// Makes a device called `name` in the namespace at `netns`, and runs
    /// `configure` there.
    pub fn create(
        netns: &Path,
        name: &str,
        offload: Capabilities,
        configure: impl FnOnce() -> Result<(), Failure> + Send + 'static,
    ) -> Result<Self, Failure> {
        let namespace =
            File::open(netns).map_err(Failure::file("open the network namespace", netns))?;
        let name = name.to_owned();
        // Threads have namespaces of their own; this one ends with its errand.
        let maker = std::thread::spawn(move || -> Result<OwnedFd, Failure> {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(Failure::Enter)?;
            let fd = make(&name, offload)?;
            configure()?;
            Ok(fd)
        });
        let fd = maker.join().map_err(|_| Failure::Died)??;
        Ok(Self { fd, readable: true, dropped: 0 })
    }

    /// Frames have come, by what who waited for them has seen. Saves asking in
    /// vain in every turn that is for the host's side alone.
    pub fn ready(&mut self, frames: bool) {
        self.readable |= frames;
    }
}

fn make(name: &str, offload: Capabilities) -> Result<OwnedFd, Failure> {
    if name.len() >= 16 {
        return Err(Failure::Name(name.to_owned()));
    }
    let failed = |what| move |errno| Failure::Kernel(what, errno);
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open("/dev/net/tun", flags, Mode::empty())
        .map_err(failed("open /dev/net/tun (is the module `tun` there?)"))?;
    let mut request =
        Request { name: [0; 16], flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, unused: [0; 22] };
    for (place, byte) in request.name.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    let mut bits = 0;
    if offload.checksum {
        bits |= TUN_F_CSUM;
    }
    if offload.segments {
        bits |= TUN_F_TSO4 | TUN_F_TSO6;
    }
    // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, whose 40 bytes
    // `Request` has.
    unsafe { ioctl(&fd, Setter::<TUNSETIFF, Request>::new(request)) }
        .map_err(failed("make the tap device (is there another of its name?)"))?;
    let size = i32::try_from(VNET_HEADER).unwrap_or(i32::MAX);
    // SAFETY: TUNSETVNETHDRSZ reads an int.
    unsafe { ioctl(&fd, Setter::<TUNSETVNETHDRSZ, i32>::new(size)) }
        .map_err(failed("set the size of the tap's offload header"))?;
    // SAFETY: TUNSETOFFLOAD takes its bits as the argument itself.
    unsafe { ioctl(&fd, rustix::ioctl::IntegerSetter::<TUNSETOFFLOAD>::new_usize(bits)) }
        .map_err(failed("set the tap's offloads"))?;
    Ok(fd)
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Port for Tap {
    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        while self.readable {
            let mut header = [0; VNET_HEADER];
            let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)];
            let read = match readv(&self.fd, &mut parts) {
                Ok(read) => read,
                Err(Errno::INTR) => continue,
                Err(_) => {
                    self.readable = false;
                    return None;
                }
            };
            let length = read.saturating_sub(VNET_HEADER);
            match parse_vnet(&header, buffer.get(..length)?) {
                Ok(offload) => return Some(Received { length, offload }),
                Err(_) => self.dropped += 1,
            }
        }
        None
    }

    fn room(&mut self, _length: usize) -> bool {
        true
    }

    fn transmit(&mut self, frame: &[u8], offload: Offload) -> bool {
        let header = emit_vnet(offload);
        match writev(&self.fd, &[IoSlice::new(&header), IoSlice::new(frame)]) {
            Ok(_) => true,
            Err(Errno::AGAIN) => false,
            Err(_) => {
                self.dropped += 1;
                true
            }
        }
    }

    fn end_batch(&mut self) {}
}
