//! The first line on a connection to [`FORWARD_PORT`](crate::FORWARD_PORT).
//!
//! The host sends `<address>:<port>\n`, a loopback address of the guest with
//! brackets around IPv6; the agent connects there and answers `OK\n`, or
//! `ERR <reason>\n` and closes. After that the connection carries the bytes of
//! the TCP connection alone, each half ended by its sender. A TCP reset is the
//! end of the whole connection.

use std::net::SocketAddr;

/// Longest header or answer line, newline included. A peer that sends more
/// without a newline is cut off.
pub const MAX_LINE: usize = 256;

/// `{0:?} is not "<loopback address>:<port>"`
#[derive(Debug, PartialEq, Eq)]
pub struct BadTarget(String);

impl std::fmt::Display for BadTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} is not \"<loopback address>:<port>\"", self.0)
    }
}

impl std::error::Error for BadTarget {}

/// Reads a header without its newline.
pub fn parse(line: &str) -> Result<SocketAddr, BadTarget> {
    let target: Option<SocketAddr> = line.parse().ok();
    target
        .filter(|target| target.ip().is_loopback() && target.port() != 0)
        .ok_or_else(|| BadTarget(line.chars().take(80).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loopback_is_a_target() {
        for good in ["127.0.0.1:80", "[::1]:65535", "127.1.2.3:1"] {
            assert_eq!(parse(good).map(|target| target.to_string()), Ok(good.to_owned()));
        }
        for bad in
            ["", "127.0.0.1", "127.0.0.1:0", "10.0.0.1:80", "[::]:80", "[::ffff:127.0.0.1]:80"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
