//! A load on a network path, and what came of it: one line of `name=value`.
//!
//! The server's ports, from the one it is given on: bytes either way, echo of
//! TCP, connections that end at once, that stay when they have sent something,
//! that stay; and on the first one of UDP, echo of datagrams.

mod call;
mod serve;

use std::io::{Write, stdout};
use std::net::SocketAddr;

use anyhow::{Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Ports from the server's first.
const BYTES: u16 = 0;
const ECHO: u16 = 1;
const BRIEF: u16 = 2;
const HOLD: u16 = 3;
const SILENT: u16 = 4;

/// What a client of [`BYTES`] says first: who is to send.
const UP: u8 = b'u';
const DOWN: u8 = b'd';

/// Bytes in one call of the kernel.
const CHUNK: usize = 128 * 1024;

/// Answers every other load.
pub fn run(words: &[&str]) -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let line = match words {
        ["serve", at] => return serve::forever(at.parse()?),
        ["up", to, seconds, streams] => call::up(to.parse()?, seconds.parse()?, streams.parse()?)?,
        ["down", to, seconds, streams] => {
            call::down(to.parse()?, seconds.parse()?, streams.parse()?)?
        }
        ["both", to, seconds] => call::both(to.parse()?, seconds.parse()?)?,
        ["tcp", to, seconds] => call::tcp_round_trips(to.parse()?, seconds.parse()?)?,
        ["udp", to, seconds] => call::udp_round_trips(to.parse()?, seconds.parse()?)?,
        ["connect", to, seconds, callers] => {
            call::connect(to.parse()?, seconds.parse()?, callers.parse()?)?
        }
        ["churn", to, connections] => call::churn(to.parse()?, connections.parse()?)?,
        ["hold", to, connections, bytes] => {
            return call::hold(to.parse()?, connections.parse()?, bytes.parse()?);
        }
        _ => bail!("no such load: {words:?}"),
    };
    writeln!(stdout(), "{line}")?;
    Ok(())
}

/// Another port of the same server.
fn port(of: SocketAddr, offset: u16) -> SocketAddr {
    SocketAddr::new(of.ip(), of.port() + offset)
}
