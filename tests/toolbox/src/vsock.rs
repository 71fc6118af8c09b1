//! What a container reaches over vsock.

use std::io::{Read, Write, stdout};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, VsockAddr, connect as connect_to, socket,
};

/// Connects to `cid`:`port` and prints `refused <errno>`, `closed` when the
/// other side ends the connection at once, or `open` when it stays.
pub fn connect(cid: u32, port: u32) -> anyhow::Result<()> {
    let fd = match socket(AddressFamily::Vsock, SockType::Stream, SockFlag::empty(), None) {
        Ok(fd) => fd,
        Err(error) => return report(&format!("refused {error:?}")),
    };
    if let Err(error) = connect_to(fd.as_raw_fd(), &VsockAddr::new(cid, port)) {
        return report(&format!("refused {error:?}"));
    }
    // Reading and time limits of a stream socket are the same in every family.
    let mut stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    match stream.read(&mut [0]) {
        Ok(0) => report("closed"),
        Err(error) if error.raw_os_error() == Some(Errno::ECONNRESET as i32) => report("closed"),
        _ => report("open"),
    }
}

fn report(what: &str) -> anyhow::Result<()> {
    writeln!(stdout(), "{what}")?;
    Ok(())
}
