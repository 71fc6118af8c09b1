//! The block device in the `io` process, and the shim's requests to attach and
//! detach disks.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::thread;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use sandbox_devices::Blk;
use sandbox_devices::blk::{self, Handle};
use sandbox_vm_spec::disks::{MAX_DISKS, MAX_PACKET, Reply, Request, SPAN};
use sandbox_vm_spec::failure::chain;

/// Stack of the thread that takes requests.
const STACK: usize = 128 * 1024;

/// The disks cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the block device")]
pub struct DisksError(#[from] io::Error);

/// The block device. A thread attaches and detaches its disks as the shim
/// requests on `requests`.
pub fn start(requests: OwnedFd) -> Result<Blk, DisksError> {
    let (device, handle) = Blk::new()?;
    let serve = move || {
        if let Err(error) = serve(&requests, &handle) {
            tracing::error!("blk: no further disks can be attached: {error}");
        }
    };
    thread::Builder::new().name("disks".into()).stack_size(STACK).spawn(serve)?;
    Ok(device)
}

/// Answers until the shim exits, which ends the process.
fn serve(requests: &OwnedFd, handle: &Handle) -> io::Result<()> {
    while let Some((packet, file)) = receive(requests)? {
        let reply = match answer(&packet, file, handle) {
            Ok(()) => Reply::Done,
            Err(error) => Reply::Failed(error),
        };
        let reply = serde_json::to_vec(&reply).map_err(io::Error::other)?;
        send(requests, &reply, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// The next packet and the file that came with it; none at the end.
fn receive(requests: &OwnedFd) -> io::Result<Option<(Vec<u8>, Option<File>)>> {
    let mut packet = vec![0; MAX_PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut packet)];
    let received = recvmsg(requests, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let files = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let file = files.flatten().next().map(File::from);
    packet.truncate(received.bytes);
    Ok((received.bytes > 0).then_some((packet, file)))
}

fn answer(packet: &[u8], file: Option<File>, handle: &Handle) -> Result<(), String> {
    let request = serde_json::from_slice(packet);
    match request.map_err(|error| format!("invalid request: {error}"))? {
        Request::Attach(disk) => {
            let file = file.ok_or("the request has no file")?;
            if !(1..=MAX_DISKS).contains(&disk.number) || disk.bytes > SPAN {
                return Err("the disk does not fit the block device".to_owned());
            }
            let number = disk.number;
            let disk = blk::Disk::new(file, disk.bytes, disk.read_only);
            let disk = disk.map_err(|error| format!("cannot look at the disk's file: {error}"))?;
            handle.attach(number, disk).map_err(|error| chain(&error))
        }
        Request::Detach(number) => handle.detach(number).map_err(|error| chain(&error)),
    }
}
