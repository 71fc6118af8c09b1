//! A guest that does anything to the rings of the network device, and a
//! host's network that does anything to its connections: no chain comes back
//! that was not given, and none comes back twice.
#![no_main]

mod input;

use std::thread;

use input::Input;
use libfuzzer_sys::fuzz_target;
use sandbox_devices::mock::{Driver, Part};
use sandbox_devices::net::{Command, Net, mock};
use sandbox_netstack::host::mock::MockNet;

/// Most steps of one input.
const STEPS: usize = 64;
/// Queue size: small, so that loops and overlaps are likely.
const SIZE: u16 = 16;
const RX: usize = 0;
const TX: usize = 1;
/// GUEST_CSUM, GUEST_TSO4 and 6, MRG_RXBUF.
const FEATURES: u64 = 1 << 1 | 0b11 << 7 | 1 << 15;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GUEST: [u8; 4] = [10, 0, 0, 2];

fn device() -> Net<MockNet> {
    let (mut net, handle) = mock::device();
    thread::scope(|scope| {
        let asking = scope.spawn(|| handle.ask(Command::Configure(mock::network().into())));
        while !asking.is_finished() {
            net.turn(&mut []).unwrap();
        }
    });
    net
}

/// The sum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// A frame with a header before it: raw bytes, ARP, or IPv4 with a checksum
/// that is right, so that what is behind it is looked at.
fn frame(kind: u8, input: &mut Input) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    if kind & 1 != 0 {
        bytes[..10].iter_mut().zip(input.bytes(10)).for_each(|(place, byte)| *place = *byte);
    } else {
        // A partial checksum of TCP.
        bytes[..9].copy_from_slice(&[1, 0, 0, 0, 0, 0, 34, 0, 16]);
    }
    let length = usize::from(input.half() % 3000);
    let protocol = match kind >> 1 & 3 {
        0 => {
            bytes.extend_from_slice(input.bytes(length));
            return bytes;
        }
        1 => 6,
        2 => 17,
        _ => 1,
    };
    bytes.extend_from_slice(&GATEWAY_MAC);
    bytes.extend_from_slice(&MAC);
    bytes.extend_from_slice(&[8, 0]);
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
    ip.extend_from_slice(&GUEST);
    ip.extend_from_slice(&[192, 0, 2, 1 + (kind >> 3 & 1)]);
    let payload = input.bytes(length);
    ip[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend_from_slice(&ip);
    bytes.extend_from_slice(payload);
    bytes
}

/// Something happens outside.
fn outside(host: &mut MockNet, what: u8, input: &mut Input) {
    let index = usize::from(input.byte().unwrap_or(0) % 4);
    let count = usize::from(input.half());
    let byte = input.byte().unwrap_or(0);
    match what % 6 {
        0 => host.touch(index, |pipe| pipe.incoming.extend(std::iter::repeat_n(byte, count))),
        1 => host.touch(index, |pipe| pipe.ended = true),
        2 => host.touch(index, |pipe| pipe.room = count),
        3 => host.touch(index, |pipe| {
            pipe.failed = Some(sandbox_netstack::host::Errno::CONNRESET);
        }),
        4 => host.deliver(index, |socket| {
            let from = ([192, 0, 2, 1], 1000 + u16::from(byte)).into();
            socket.incoming.push_back((from, vec![byte; count % 3000]));
        }),
        _ => host.echo(index, |socket| {
            let from = [192, 0, 2, 1].into();
            socket.incoming.push_back((from, u16::from(byte), vec![byte; count % 3000]));
        }),
    }
}

/// Hangs a descriptor, or a whole ring, into guest memory.
fn scribble(driver: &mut Driver, what: u8, input: &mut Input) {
    let queue = usize::from(what & 1);
    match what >> 1 & 3 {
        0 => {
            let part = Part {
                addr: u64::from(input.word()),
                len: input.word() >> (input.byte().unwrap_or(0) % 32),
                write: what & 8 != 0,
            };
            let (index, flags) = (input.half() % SIZE, u32::from(input.half() & 5));
            driver.describe(queue, index, part, flags, input.half() % (SIZE + 1));
        }
        1 => driver.offer(queue, input.half() % (SIZE + 1)),
        2 => driver.advance(queue, input.half() % (SIZE * 2)),
        _ => {
            let table = driver.descriptors(queue);
            driver.write(table, input.bytes(usize::from(SIZE) * 16));
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut net = device();
    net.begin(u64::from(input.word()) & FEATURES).unwrap();
    let mut driver = Driver::with_sizes(&[SIZE; 2]);
    let mut memory = 0;
    for _ in 0..STEPS {
        let Some(what) = input.byte() else { break };
        match what % 8 {
            // The mock's memory is 2 MiB of buffers.
            0..=2 if memory < 1 << 20 => {
                let frame = frame(what / 8, &mut input);
                memory += frame.len();
                let (addr, len) = (driver.bytes(&frame), frame.len() as u32);
                driver.chain(TX, &[Part { addr, len, write: false }]);
            }
            3 if memory < 1 << 20 => {
                let len = u32::from(input.half() % 5000);
                memory += len as usize;
                let addr = driver.buffer(len);
                driver.chain(RX, &[Part { addr, len, write: true }]);
            }
            4 => scribble(&mut driver, what / 8, &mut input),
            5 => {
                net.end();
                driver = Driver::over(driver.memory.clone(), &[SIZE; 2]);
                driver.write(0x10_0000, &[0; 0x2_0000]);
                net.begin(u64::from(input.word()) & FEATURES).unwrap();
            }
            _ => {
                if let Some(host) = net.host() {
                    outside(host, what / 8, &mut input);
                }
            }
        }
        if net.turn(&mut driver.io()).is_err() {
            net.end();
            return;
        }
        for queue in [RX, TX] {
            let returned = driver.returned(queue).len();
            assert!(returned <= usize::from(SIZE), "{returned} of {SIZE} chains at once");
        }
    }
});
