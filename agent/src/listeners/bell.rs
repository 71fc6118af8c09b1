//! Says when a look at what listens may be worth it: BPF programs on the root
//! cgroup ring when a TCP socket begins to listen, and when it ceases to; when
//! a UDP socket is bound to a port that its program has named, and when that
//! socket ends. In a kernel without that, time does.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::bpf::{self, Hook, Instruction as I};
use super::ring::{Record, Ring};
use crate::cgroup;
use crate::stage::mark;

/// How often to look where nothing rings.
const PERIOD: Duration = Duration::from_millis(50);

/// How often to look although nothing has rung: a program in the guest that is
/// privileged may have taken the bell away, or rung it more than it holds.
const SILENCE: Duration = Duration::from_secs(10);

/// Bytes of the ring buffer: more than a thousand events that wait for us.
const RING: u32 = 32 * 1024;

/// UDP sockets on named ports of which the programs know. With more of them,
/// the ports that no socket gets unasked are found by the clock.
const NAMED: u32 = 4096;

/// What a listening socket did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The socket with this cookie listens, or is bound to a port that its
    /// program has named.
    Began(u64),
    /// It is about to cease to.
    Ends(u64),
}

pub struct Bell {
    ring: Option<Ring>,
}

impl Bell {
    /// A bell that rings from now on.
    pub fn hang() -> Self {
        let ring = hang();
        if let Err(error) = &ring {
            mark(format_args!("no BPF, so listeners are looked for every {PERIOD:?}: {error}"));
        }
        Self { ring: ring.ok() }
    }

    /// One that time alone rings.
    #[cfg(test)]
    pub fn clock() -> Self {
        Self { ring: None }
    }

    /// Returns when it has rung since the last time, with what happened.
    pub async fn rung(&mut self) -> Vec<Event> {
        let Some(ring) = &mut self.ring else {
            sleep(PERIOD).await;
            return Vec::new();
        };
        if let Ok(Err(_)) = timeout(SILENCE, ring.readable()).await {
            // Only the end of the runtime does that.
            sleep(PERIOD).await;
        }
        let mut events = Vec::new();
        ring.drain(&mut |[cookie, ends]: Record| {
            events.push(if ends == 0 { Event::Began(cookie) } else { Event::Ends(cookie) });
        });
        events
    }
}

fn hang() -> io::Result<Ring> {
    let (map, named) = (bpf::ring_buffer(RING)?, bpf::set(NAMED)?);
    let root = File::open(cgroup::ROOT)?;
    let (ring, named) = (map.as_raw_fd(), named.as_raw_fd());
    for (hook, program) in [
        (Hook::SockOps, tcp(ring)),
        (Hook::Bind4, udp_names(named)),
        (Hook::Bind6, udp_names(named)),
        (Hook::Bound4, udp(named, MAP_LOOKUP, I::jump_if_equal(0, 0, RINGING), ring, 0)),
        (Hook::Bound6, udp(named, MAP_LOOKUP, I::jump_if_equal(0, 0, RINGING), ring, 0)),
        (Hook::Release, udp(named, MAP_DELETE, I::jump_unless_equal(0, 0, RINGING), ring, 1)),
    ] {
        bpf::hang(root.as_fd(), hook, &program)?;
    }
    Ring::new(map, RING as usize)
}

// Helpers.
const MAP_LOOKUP: i32 = 1;
const MAP_UPDATE: i32 = 2;
const MAP_DELETE: i32 = 3;
const GET_SOCKET_COOKIE: i32 = 46;
const SOCK_OPS_CB_FLAGS_SET: i32 = 59;
const RINGBUF_OUTPUT: i32 = 130;

/// `IPPROTO_UDP`
const UDP: i32 = 17;

/// Instructions of [`ring`].
const RINGING: i16 = 7;

/// Writes the 16 bytes on top of the stack, `{ cookie, 0 or 1 }`, into the ring
/// buffer.
fn ring(ring: RawFd) -> [I; RINGING as usize] {
    let [map, map_too] = I::load_map(1, ring);
    let output = I::call(RINGBUF_OUTPUT);
    [map, map_too, I::mov_register(2, 10), I::add(2, -16), I::mov(3, 16), I::mov(4, 0), output]
}

/// What the kernel takes as nothing said, or as allowed.
const DONE: [I; 2] = [I::mov(0, 1), I::exit()];

fn tcp(map: RawFd) -> Vec<I> {
    // Of `struct bpf_sock_ops`.
    const OP: i16 = 0;
    const OLD_STATE: i16 = 4;
    const CB_FLAGS: i16 = 84;
    // Values of `op`, and of a state.
    const STATE_CB: i32 = 10;
    const TCP_LISTEN_CB: i32 = 11;
    const TCP_LISTEN: i32 = 10;
    // A flag of the socket that asks for STATE_CB.
    const STATE_CB_FLAG: i32 = 4;

    let program = [
        I::mov_register(6, 1),
        I::load_word(2, 6, OP),
        I::jump_if_equal(2, TCP_LISTEN_CB, 5),
        I::jump_unless_equal(2, STATE_CB, 20),
        // The kernel calls before it takes the socket out of its lists.
        I::load_word(2, 6, OLD_STATE),
        I::jump_unless_equal(2, TCP_LISTEN, 18),
        I::mov(7, 1),
        I::jump(5),
        // It listens: ask to be told of its end.
        I::load_word(2, 6, CB_FLAGS),
        I::or(2, STATE_CB_FLAG),
        I::mov_register(1, 6),
        I::call(SOCK_OPS_CB_FLAGS_SET),
        I::mov(7, 0),
        // Ring.
        I::mov_register(1, 6),
        I::call(GET_SOCKET_COOKIE),
        I::store(10, -16, 0),
        I::store(10, -8, 7),
    ];
    [&program[..], &ring(map), &DONE].concat()
}

/// Notes in `named` that a program asks for a port that it names, and not for
/// any that is free as clients do. It has not got it yet.
fn udp_names(named: RawFd) -> Vec<I> {
    // Of `struct bpf_sock_addr`.
    const USER_PORT: i16 = 24;
    const PROTOCOL: i16 = 36;

    let [map, map_too] = I::load_map(1, named);
    let program = [
        I::load_word(2, 1, PROTOCOL),
        I::jump_unless_equal(2, UDP, 13),
        I::load_word(2, 1, USER_PORT),
        I::jump_if_equal(2, 0, 11),
        I::call(GET_SOCKET_COOKIE),
        I::store(10, -16, 0),
        I::store_value(10, -8, 0),
        map,
        map_too,
        I::mov_register(2, 10),
        I::add(2, -16),
        I::mov_register(3, 10),
        I::add(3, -8),
        I::mov(4, 0),
        I::call(MAP_UPDATE),
    ];
    [&program[..], &DONE].concat()
}

/// Rings for UDP, if the socket is one of `named`: `helper` says so, and
/// `skip` skips the ringing if it does not.
fn udp(named: RawFd, helper: i32, skip: I, map: RawFd, ends: i32) -> Vec<I> {
    // Of `struct bpf_sock`.
    const PROTOCOL: i16 = 12;

    let [set, set_too] = I::load_map(1, named);
    let program = [
        I::load_word(2, 1, PROTOCOL),
        I::jump_unless_equal(2, UDP, 16),
        I::call(GET_SOCKET_COOKIE),
        I::store(10, -16, 0),
        I::store_value(10, -8, ends),
        set,
        set_too,
        I::mov_register(2, 10),
        I::add(2, -16),
        I::call(helper),
        skip,
    ];
    [&program[..], &ring(map), &DONE].concat()
}
