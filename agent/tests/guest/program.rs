//! What runs inside of a container: this test's own binary, told by its stdin
//! what to listen on.

use std::collections::HashMap;
use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs, thread};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, bind, listen, setsockopt, socket,
    sockopt::Ipv6V6Only,
};

/// First argument of the binary when it is to be the program.
pub const ARGUMENT: &str = "--in-the-guest";

/// Where [`install`] puts it in a container.
pub const PATH: &str = "/program";

/// Copies the program, with the libraries that it needs, into a root.
pub fn install(root: &Path) {
    let binary = env::current_exe().unwrap();
    fs::copy(&binary, root.join(&PATH[1..])).unwrap();
    // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)", or the linker's path alone.
    let output = Command::new("ldd").arg(&binary).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(&library[1..]);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(library, to).unwrap();
    }
}

/// Does what the lines of stdin say, each with an answer on stdout.
pub fn run() -> ExitCode {
    let mut listeners: HashMap<String, OwnedFd> = inherited();
    say("ready");
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["listen", at] => drop(listeners.insert(at.to_owned(), listener(at).into())),
            ["only", at] => drop(listeners.insert(at.to_owned(), v6_only(at))),
            ["udp", at] => drop(listeners.insert(format!("udp {at}"), datagrams(at).into())),
            ["udp-connect", at, to] => {
                let socket = UdpSocket::from(listeners.remove(&format!("udp {at}")).unwrap());
                socket.connect(to).unwrap();
                listeners.insert(format!("udp {at}"), socket.into());
            }
            ["udp-close", at] => drop(listeners.remove(&format!("udp {at}")).unwrap()),
            ["close", at] => drop(listeners.remove(at).unwrap()),
            ["shutdown", at] => shut_down(&listeners[at]),
            ["many", first, count] => many(&mut listeners, first, count),
            ["none"] => listeners.clear(),
            ["echo", at] => echo(listener(at)),
            ["exec"] => exec(&listeners),
            _ => panic!("{line}"),
        }
        say(&line);
    }
    ExitCode::SUCCESS
}

fn say(line: &str) {
    let mut out = io::stdout();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

fn listener(at: &str) -> TcpListener {
    TcpListener::bind(at).unwrap()
}

fn datagrams(at: &str) -> UdpSocket {
    UdpSocket::bind(at).unwrap()
}

fn many(listeners: &mut HashMap<String, OwnedFd>, first: &str, count: &str) {
    let (first, count): (u16, u16) = (first.parse().unwrap(), count.parse().unwrap());
    for port in first..first + count {
        let at = format!("127.0.0.1:{port}");
        listeners.insert(at.clone(), listener(&at).into());
    }
}

fn v6_only(at: &str) -> OwnedFd {
    let Ok(SocketAddr::V6(at)) = at.parse() else { panic!("{at}") };
    let fd = socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, Ipv6V6Only, &true).unwrap();
    let at: SocketAddrV6 = at;
    assert_eq!(*at.ip(), Ipv6Addr::UNSPECIFIED);
    bind(fd.as_raw_fd(), &SockaddrIn6::from(at)).unwrap();
    listen(&fd, Backlog::new(16).unwrap()).unwrap();
    fd
}

fn shut_down(fd: &OwnedFd) {
    nix::sys::socket::shutdown(fd.as_raw_fd(), nix::sys::socket::Shutdown::Read).unwrap();
}

/// Answers every connection with its own bytes.
fn echo(listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || copy(stream.unwrap()));
        }
    });
}

fn copy(mut stream: TcpStream) {
    let mut buf = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buf) {
            Ok(0) | Err(_) => return,
            Ok(read) => stream.write_all(&buf[..read]).unwrap(),
        }
    }
}

/// Becomes a new program that has the same listeners.
fn exec(listeners: &HashMap<String, OwnedFd>) {
    let mut command = Command::new(PATH);
    command.arg(ARGUMENT);
    for (at, fd) in listeners {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        command.arg(format!("{at}={}", fd.as_raw_fd()));
    }
    panic!("{}", command.exec());
}

fn inherited() -> HashMap<String, OwnedFd> {
    let listeners = env::args().skip(2).map(|argument| {
        let (at, fd) = argument.split_once('=').unwrap();
        let fd: RawFd = fd.parse().unwrap();
        // SAFETY: the program before this one left it open for this.
        (at.to_owned(), unsafe { OwnedFd::from_raw_fd(fd) })
    });
    listeners.collect()
}
