//! The few things of `bpf(2)` that the bell needs.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `BPF_MAP_CREATE`
const MAP_CREATE: libc::c_int = 0;
/// `BPF_PROG_LOAD`
const PROG_LOAD: libc::c_int = 5;
/// `BPF_PROG_ATTACH`
const PROG_ATTACH: libc::c_int = 8;

/// `BPF_MAP_TYPE_HASH`
const MAP_TYPE_HASH: u32 = 1;
/// `BPF_MAP_TYPE_RINGBUF`
const MAP_TYPE_RINGBUF: u32 = 27;
/// `BPF_F_NO_PREALLOC`: memory is taken for what is in a map.
const NO_PREALLOC: u32 = 1;
/// `BPF_F_ALLOW_MULTI`: cgroups below may have programs too.
const ALLOW_MULTI: u32 = 2;

/// Where a program on a cgroup is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Events of TCP sockets (`BPF_CGROUP_SOCK_OPS`).
    SockOps,
    /// Before bind(2) of an IPv4 socket (`BPF_CGROUP_INET4_BIND`).
    Bind4,
    /// Before bind(2) of an IPv6 socket (`BPF_CGROUP_INET6_BIND`).
    Bind6,
    /// When an IPv4 socket is bound (`BPF_CGROUP_INET4_POST_BIND`).
    Bound4,
    /// When an IPv6 socket is bound (`BPF_CGROUP_INET6_POST_BIND`).
    Bound6,
    /// Before a socket ends (`BPF_CGROUP_INET_SOCK_RELEASE`).
    Release,
}

impl Hook {
    /// `enum bpf_prog_type`: sockets, their addresses, and what TCP's do.
    const fn program(self) -> u32 {
        match self {
            Self::Bound4 | Self::Bound6 | Self::Release => 9,
            Self::SockOps => 13,
            Self::Bind4 | Self::Bind6 => 18,
        }
    }

    /// `enum bpf_attach_type`
    const fn attach(self) -> u32 {
        match self {
            Self::SockOps => 3,
            Self::Bind4 => 8,
            Self::Bind6 => 9,
            Self::Bound4 => 12,
            Self::Bound6 => 13,
            Self::Release => 34,
        }
    }
}

/// `BPF_PSEUDO_MAP_FD`
const PSEUDO_MAP_FD: u8 = 1;

/// How often to load a program: the kernel gives up its check with EAGAIN when
/// a signal comes, and process 1 has one for each process that ends.
const LOADS: usize = 100;

/// `struct bpf_insn`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Names of instructions as the kernel's `filter.h` has them.
impl Instruction {
    const fn new(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Self {
        Self { code, registers: from << 4 | to, offset, immediate }
    }

    /// `to = value`
    pub const fn mov(to: u8, value: i32) -> Self {
        Self::new(0xb7, to, 0, 0, value)
    }

    /// `to = from`
    pub const fn mov_register(to: u8, from: u8) -> Self {
        Self::new(0xbf, to, from, 0, 0)
    }

    /// `to += value`
    pub const fn add(to: u8, value: i32) -> Self {
        Self::new(0x07, to, 0, 0, value)
    }

    /// `to |= value`
    pub const fn or(to: u8, value: i32) -> Self {
        Self::new(0x47, to, 0, 0, value)
    }

    /// `to = *(u32 *)(from + offset)`
    pub const fn load_word(to: u8, from: u8, offset: i16) -> Self {
        Self::new(0x61, to, from, offset, 0)
    }

    /// `*(u64 *)(to + offset) = value`
    pub const fn store_value(to: u8, offset: i16, value: i32) -> Self {
        Self::new(0x7a, to, 0, offset, value)
    }

    /// `*(u64 *)(to + offset) = from`
    pub const fn store(to: u8, offset: i16, from: u8) -> Self {
        Self::new(0x7b, to, from, offset, 0)
    }

    /// `if register == value, skip offset instructions`
    pub const fn jump_if_equal(register: u8, value: i32, offset: i16) -> Self {
        Self::new(0x15, register, 0, offset, value)
    }

    /// `if register != value, skip offset instructions`
    pub const fn jump_unless_equal(register: u8, value: i32, offset: i16) -> Self {
        Self::new(0x55, register, 0, offset, value)
    }

    /// `skip offset instructions`
    pub const fn jump(offset: i16) -> Self {
        Self::new(0x05, 0, 0, offset, 0)
    }

    /// `r0 = helper(r1, r2, r3, r4, r5)`
    pub const fn call(helper: i32) -> Self {
        Self::new(0x85, 0, 0, 0, helper)
    }

    /// `to = map`: two instructions.
    pub const fn load_map(to: u8, map: RawFd) -> [Self; 2] {
        [Self::new(0x18, to, PSEUDO_MAP_FD, 0, map), Self::new(0, 0, 0, 0, 0)]
    }

    /// `return r0`
    pub const fn exit() -> Self {
        Self::new(0x95, 0, 0, 0, 0)
    }
}

/// The start of `union bpf_attr` for [`MAP_CREATE`].
#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// The start of `union bpf_attr` for [`PROG_LOAD`].
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    /// Of logs, the kernel's version, flags, a name and an interface.
    others: [u32; 11],
    expected_attach_type: u32,
}

/// The start of `union bpf_attr` for [`PROG_ATTACH`].
#[repr(C)]
struct ProgAttach {
    target_fd: i32,
    attach_bpf_fd: i32,
    attach_type: u32,
    attach_flags: u32,
}

/// Makes a ring buffer of `bytes`, a power of two of whole pages.
pub fn ring_buffer(bytes: u32) -> io::Result<OwnedFd> {
    map(&MapCreate { map_type: MAP_TYPE_RINGBUF, max_entries: bytes, ..MapCreate::default() })
}

/// Makes a set of at most `entries` numbers of 64 bits: a map whose values, of
/// as many, say nothing.
pub fn set(entries: u32) -> io::Result<OwnedFd> {
    map(&MapCreate {
        map_type: MAP_TYPE_HASH,
        key_size: 8,
        value_size: 8,
        max_entries: entries,
        map_flags: NO_PREALLOC,
    })
}

fn map(attr: &MapCreate) -> io::Result<OwnedFd> {
    // SAFETY: MapCreate is the start of the command's attributes.
    let map = unsafe { bpf(MAP_CREATE, attr) }?;
    // SAFETY: the kernel has just opened it, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(map) })
}

/// Has a program called at `hook` for every socket of `cgroup` and of those
/// below it, until the cgroup ends.
pub fn hang(cgroup: BorrowedFd<'_>, hook: Hook, program: &[Instruction]) -> io::Result<()> {
    attach(cgroup, hook, load(hook, program)?.as_fd())
}

fn load(hook: Hook, program: &[Instruction]) -> io::Result<OwnedFd> {
    let attr = ProgLoad {
        prog_type: hook.program(),
        insn_cnt: u32::try_from(program.len()).map_err(io::Error::other)?,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        others: [0; 11],
        expected_attach_type: hook.attach(),
    };
    let load = || {
        // SAFETY: ProgLoad is the start of the command's attributes, and its two
        // pointers lead to as many instructions as it says and to a C string,
        // which live until the call has returned.
        unsafe { bpf(PROG_LOAD, &attr) }
    };
    let loaded = until_uninterrupted(load)?;
    // SAFETY: the kernel has just opened it, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(loaded) })
}

fn until_uninterrupted<T>(mut load: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tried = 1;
    loop {
        match load() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tried < LOADS => tried += 1,
            loaded => return loaded,
        }
    }
}

fn attach(cgroup: BorrowedFd<'_>, hook: Hook, program: BorrowedFd<'_>) -> io::Result<()> {
    let attr = ProgAttach {
        target_fd: cgroup.as_raw_fd(),
        attach_bpf_fd: program.as_raw_fd(),
        attach_type: hook.attach(),
        attach_flags: ALLOW_MULTI,
    };
    // SAFETY: ProgAttach is the start of the command's attributes.
    unsafe { bpf(PROG_ATTACH, &attr) }.map(drop)
}

/// # Safety
///
/// `attr` must be the start of the attributes that `command` reads, and what it
/// points at must live until this returns.
unsafe fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<RawFd> {
    let size = size_of::<T>();
    // SAFETY: the kernel reads `size` bytes at `attr`, and takes the attributes
    // that come after them as zero; for the pointers in it, see above.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(answer).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
