//! Where the NAT's sockets are.

use std::fs;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

use sandbox_tests::network::{ECHO, SCRIPT, SERVER};

use super::behind::Behind;

/// `linux/sockios.h`: the network namespace of a socket, as a file.
const SIOCGSKNS: libc::c_ulong = 0x894c;

/// R52, group 23: every socket of the NAT, for TCP, UDP and who comes in, is
/// of the pod's namespace, whatever namespace the guest has.
#[test]
fn every_socket_is_of_the_pods_namespace() {
    let behind = Behind::with(&["--publish", "7100"]);
    let script = format!("{}:{SCRIPT}", SERVER.v4);
    let echo = format!("[{}]:{ECHO}", SERVER.v6);
    thread::scope(|scope| {
        scope.spawn(|| behind.guest.toolbox(&["tcp", &script, "say:pause:3000,close", "recv"]));
        behind.guest.toolbox(&["udp", &echo, "send:1", "recv"]);
        let pod = behind.network.pod().namespace.inode();
        // The connection is made meanwhile.
        let found = sandbox_tests::until("four sockets", Duration::from_secs(3), || {
            let found = namespaces(behind.pid());
            (found.len() >= 4).then_some(found)
        });
        assert!(found.iter().all(|inode| *inode == pod), "{pod} and {found:?}");
    });
}

/// Inodes of the namespaces of a process's sockets.
fn namespaces(pid: i32) -> Vec<u64> {
    // SAFETY: both calls take numbers alone, and what they answer is a new
    // descriptor of this process, or -1.
    let own = |number: libc::c_long, words: [libc::c_long; 3]| unsafe {
        let fd = libc::syscall(number, words[0], words[1], words[2]);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()))
    };
    let process = own(libc::SYS_pidfd_open, [pid.into(), 0, 0]).expect("a pidfd");
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let sockets = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        target.to_str()?.starts_with("socket:").then_some(())?;
        let number: i32 = entry.file_name().to_str()?.parse().ok()?;
        own(libc::SYS_pidfd_getfd, [process.as_raw_fd().into(), number.into(), 0])
    });
    sockets
        .filter_map(|socket| {
            // SAFETY: SIOCGSKNS takes no argument and answers a new descriptor.
            let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) };
            // Sockets that are not of the network have none.
            (fd >= 0).then(|| {
                // SAFETY: the descriptor is new and nobody else's.
                let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
                file.metadata().unwrap().ino()
            })
        })
        .collect()
}
