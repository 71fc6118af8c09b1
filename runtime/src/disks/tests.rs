#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::thread;

use rustix::net::RecvAncillaryBuffer;

use super::*;

/// An `io` that does what it is asked, and counts descriptors that come.
fn serve(theirs: OwnedFd) -> thread::JoinHandle<(Vec<Request>, usize)> {
    thread::spawn(move || {
        let (mut requests, mut files) = (vec![], 0);
        loop {
            let mut packet = vec![0; MAX_PACKET];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [io::IoSliceMut::new(&mut packet)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let received = rustix::net::recvmsg(&theirs, &mut parts, &mut ancillary, flags);
            let len = received.map_or(0, |message| message.bytes);
            if len == 0 {
                return (requests, files);
            }
            files += ancillary.drain().count();
            requests.push(serde_json::from_slice(&packet[..len]).unwrap());
            let reply = serde_json::to_vec(&Reply::Done).unwrap();
            rustix::net::send(&theirs, &reply, SendFlags::empty()).unwrap();
        }
    })
}

#[test]
fn a_disk_is_attached_as_long_as_it_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    fs::write(&path, [0; 1500]).unwrap();
    let (disks, theirs) = Disks::pair().unwrap();
    let io = serve(theirs);
    let first = disks.attach(&path, false).unwrap();
    let second = disks.attach(&path, true).unwrap();
    assert_eq!(first.disk, Disk { number: 1, bytes: 1024, read_only: false });
    assert_eq!(second.disk, Disk { number: 2, bytes: 1024, read_only: true });
    drop(first);
    // Not the one that has just become free.
    let third = disks.attach(&path, true).unwrap();
    assert_eq!(third.disk.number, 3);
    drop((second, third, disks));
    let (requests, files) = io.join().unwrap();
    assert_eq!(files, 3);
    assert_eq!(requests.len(), 6);
    assert_eq!(requests[2], Request::Detach(1));
}

#[test]
fn numbers_run_out_and_come_again() {
    let mut numbers = Numbers::default();
    let all: Vec<u16> = std::iter::from_fn(|| numbers.take()).collect();
    assert_eq!(all, (1..=MAX_DISKS).collect::<Vec<_>>());
    numbers.free(7);
    assert_eq!((numbers.take(), numbers.take()), (Some(7), None));
}

#[test]
fn what_is_no_disk_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (disks, _theirs) = Disks::pair().unwrap();
    let refused =
        |name: &str, read_only| disks.attach(&dir.path().join(name), read_only).unwrap_err();
    fs::create_dir(dir.path().join("directory")).unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&dir.path().join("fifo"), mode).unwrap();
    for read_only in [true, false] {
        assert_eq!(refused("none", read_only).kind(), ErrorKind::NotFound);
        for name in ["directory", "fifo", "empty"] {
            let error = refused(name, read_only);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name}: {error}");
        }
    }
}
