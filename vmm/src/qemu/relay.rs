//! Between QEMU's `netdev vhost-user` and the backend of the net device.
//!
//! Other than its vhost-user devices, QEMU's netdev takes no connected socket
//! but connects to a path by itself, and QEMU 7.2 enables the rings before it
//! acknowledges features, which the protocol forbids and our backend refuses.
//! So there is a socket that only QEMU can reach, and what comes by it too
//! early waits.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Bytes of a message's header: request, flags, and size of what follows.
const HEADER: usize = 12;
/// Longest message: what the protocol's largest takes, with room. A QEMU that
/// its guest has taken over must not fill this process's memory.
const MAX_MESSAGE: usize = 4096;
/// Most descriptors with a message: one for each region of memory.
const MAX_FDS: usize = 8;
/// Messages that wait: the last one for each ring. More rings end the
/// connection.
const MAX_HELD: usize = 2;

const SET_FEATURES: u32 = 2;
const SET_VRING_ENABLE: u32 = 18;
/// Flags of a header: version 1, "this is a reply", "answer this".
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

/// Stack of the thread.
const STACK: usize = 64 * 1024;

pub struct Relay {
    /// The socket as a file without a name in any mounted file system.
    file: OwnedFd,
    listener: UnixListener,
    backend: UnixStream,
}

/// A message on its way.
struct Message {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Relay {
    /// A relay to a connected backend.
    pub fn new(backend: OwnedFd) -> io::Result<Self> {
        let directory = nowhere()?;
        let path = format!("/proc/self/fd/{}/net", directory.as_raw_fd());
        let listener = UnixListener::bind(&path)?;
        let file = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { file, listener, backend: backend.into() })
    }

    /// What QEMU is to connect to by its number.
    pub fn file(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Waits for QEMU and serves it, in a thread.
    pub fn start(self) -> io::Result<()> {
        let serve = move || {
            let Self { file, listener, backend } = self;
            let qemu = match listener.accept() {
                Ok((qemu, _)) => qemu,
                Err(error) => {
                    return tracing::error!("net: cannot accept QEMU's connection: {error}");
                }
            };
            drop((file, listener));
            if let Err(error) = Carrier::new(qemu, backend).carry() {
                tracing::error!("net: the connection between QEMU and the backend failed: {error}");
            }
        };
        thread::Builder::new().name("relay".into()).stack_size(STACK).spawn(serve)?;
        Ok(())
    }
}

/// A new file system without a mount point.
fn nowhere() -> io::Result<OwnedFd> {
    let kind = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&kind)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOEXEC | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(&kind, FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
}

struct Carrier {
    qemu: UnixStream,
    backend: UnixStream,
    /// The backend knows which features there are.
    agreed: bool,
    held: VecDeque<Message>,
}

impl Carrier {
    fn new(qemu: UnixStream, backend: UnixStream) -> Self {
        Self { qemu, backend, agreed: false, held: VecDeque::new() }
    }

    /// Carries messages until one end is gone.
    fn carry(mut self) -> io::Result<()> {
        loop {
            let readable = |stream| PollFd::new(stream, PollFlags::POLLIN);
            let mut fds = [readable(self.qemu.as_fd()), readable(self.backend.as_fd())];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [qemu, backend] = fds.map(|fd| fd.any().unwrap_or(false));
            if qemu {
                match Message::read(&self.qemu)? {
                    Some(message) => self.pass(message)?,
                    None => return Ok(()),
                }
            }
            if backend {
                match Message::read(&self.backend)? {
                    Some(message) => message.write(&self.qemu)?,
                    None => return Ok(()),
                }
            }
        }
    }

    fn pass(&mut self, message: Message) -> io::Result<()> {
        let request = message.word(0);
        if request == SET_VRING_ENABLE && !self.agreed {
            return self.hold(message);
        }
        message.write(&self.backend)?;
        if request == SET_FEATURES {
            self.agreed = true;
            for held in self.held.drain(..) {
                held.write(&self.backend)?;
            }
        }
        Ok(())
    }

    /// Keeps a message for later. An answer that QEMU waits for is given now.
    fn hold(&mut self, mut message: Message) -> io::Result<()> {
        let ring = |message: &Message| message.bytes.get(HEADER..HEADER + 4).map(<[u8]>::to_vec);
        self.held.retain(|held| ring(held) != ring(&message));
        if self.held.len() == MAX_HELD {
            return Err(io::Error::other("too many messages before the features are known"));
        }
        let flags = message.word(1);
        if flags & NEED_REPLY != 0 {
            message.bytes[4..8].copy_from_slice(&(flags & !NEED_REPLY).to_ne_bytes());
            let mut done = [0; HEADER + 8];
            let header = [message.word(0), VERSION | REPLY, 8];
            for (place, word) in done.chunks_exact_mut(4).zip(header) {
                place.copy_from_slice(&word.to_ne_bytes());
            }
            Message { bytes: done.into(), fds: Vec::new() }.write(&self.qemu)?;
        }
        self.held.push_back(message);
        Ok(())
    }
}

impl Message {
    /// Reads one; none at the end.
    fn read(from: &UnixStream) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; HEADER];
        let (read, fds) = receive(from, &mut bytes)?;
        if read == 0 {
            return Ok(None);
        }
        let mut rest = from;
        rest.read_exact(&mut bytes[read..])?;
        let mut message = Self { bytes, fds };
        let size = message.word(2) as usize;
        if size > MAX_MESSAGE {
            return Err(io::Error::other(format!("a message of {size} bytes")));
        }
        message.bytes.resize(HEADER + size, 0);
        rest.read_exact(&mut message.bytes[HEADER..])?;
        Ok(Some(message))
    }

    /// A word of the header.
    fn word(&self, index: usize) -> u32 {
        let mut word = [0; 4];
        word.copy_from_slice(&self.bytes[index * 4..index * 4 + 4]);
        u32::from_ne_bytes(word)
    }

    fn write(&self, to: &UnixStream) -> io::Result<()> {
        let fds: Vec<BorrowedFd> = self.fds.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::other(format!("{} descriptors with a message", fds.len())));
        }
        let parts = [IoSlice::new(&self.bytes)];
        let sent = sendmsg(to, &parts, &mut control, SendFlags::NOSIGNAL)?;
        io::Write::write_all(&mut &*to, &self.bytes[sent..])
    }
}

/// Reads what is there, and the descriptors that came with it.
fn receive(from: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(bytes)];
    let received = recvmsg(from, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let fds = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok((received.bytes, fds.flatten().collect()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::io::Write;

    use super::*;

    /// A message of a request with 8 bytes of payload.
    fn message(request: u32, flags: u32, payload: u64) -> Vec<u8> {
        let words = [request, flags, 8].into_iter().flat_map(u32::to_ne_bytes);
        words.chain(payload.to_ne_bytes()).collect()
    }

    /// A relay with both ends.
    fn ends() -> (UnixStream, UnixStream) {
        let (backend, theirs) = UnixStream::pair().unwrap();
        let relay = Relay::new(theirs.into()).unwrap();
        let qemu = UnixStream::connect(format!("/proc/self/fd/{}", relay.file())).unwrap();
        relay.start().unwrap();
        (qemu, backend)
    }

    fn expect(end: &mut UnixStream, bytes: &[u8]) {
        let mut read = vec![0; bytes.len()];
        end.read_exact(&mut read).unwrap();
        assert_eq!(read, bytes);
    }

    #[test]
    fn rings_are_enabled_after_the_features() {
        let (mut qemu, mut backend) = ends();
        qemu.write_all(&message(SET_VRING_ENABLE, VERSION, 0)).unwrap();
        qemu.write_all(&message(SET_VRING_ENABLE, VERSION, 1 << 32)).unwrap();
        qemu.write_all(&message(SET_VRING_ENABLE, VERSION | NEED_REPLY, 1 << 32 | 1)).unwrap();
        expect(&mut qemu, &message(SET_VRING_ENABLE, VERSION | REPLY, 0));
        qemu.write_all(&message(3, VERSION, 0)).unwrap();
        expect(&mut backend, &message(3, VERSION, 0));
        qemu.write_all(&message(SET_FEATURES, VERSION, 1 << 30)).unwrap();
        expect(&mut backend, &message(SET_FEATURES, VERSION, 1 << 30));
        expect(&mut backend, &message(SET_VRING_ENABLE, VERSION, 1 << 32));
        expect(&mut backend, &message(SET_VRING_ENABLE, VERSION, 1 << 32 | 1));
        let later = message(SET_VRING_ENABLE, VERSION | NEED_REPLY, 0);
        qemu.write_all(&later).unwrap();
        expect(&mut backend, &later);
        backend.write_all(&message(SET_VRING_ENABLE, VERSION | REPLY, 0)).unwrap();
        expect(&mut qemu, &message(SET_VRING_ENABLE, VERSION | REPLY, 0));
        drop(backend);
        assert_eq!(qemu.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn descriptors_go_along() {
        let (qemu, backend) = ends();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let bytes = message(5, VERSION, 7);
        Message { bytes: bytes.clone(), fds: vec![theirs.into()] }.write(&qemu).unwrap();
        let mut came = Message::read(&backend).unwrap().unwrap();
        assert_eq!(came.bytes, bytes);
        let mut passed = UnixStream::from(came.fds.pop().unwrap());
        passed.write_all(b"x").unwrap();
        expect(&mut ours, b"x");
    }

    #[test]
    fn a_message_without_an_end_or_too_many_held_end_it() {
        let (mut qemu, _backend) = ends();
        let header = [1, VERSION, u32::MAX].map(u32::to_ne_bytes).concat();
        qemu.write_all(&header).unwrap();
        assert_eq!(qemu.read(&mut [0]).unwrap(), 0);
        let (mut qemu, _backend) = ends();
        for ring in 0..=MAX_HELD as u64 {
            qemu.write_all(&message(SET_VRING_ENABLE, VERSION, 1 << 32 | ring)).unwrap();
        }
        assert_eq!(qemu.read(&mut [0]).unwrap(), 0);
    }
}
