#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod device;
mod packets;

use super::header::*;

const CID: u32 = 3;
/// A port on which the guest listens.
const GUEST_PORT: u32 = 1025;
/// A host port that the guest may connect to.
const HOST_PORT: u32 = 1024;

/// A packet of the guest.
fn from_guest(op: Op, guest_port: u32, host_port: u32) -> Header {
    Header {
        src_cid: CID.into(),
        dst_cid: HOST_CID,
        src_port: guest_port,
        dst_port: host_port,
        kind: STREAM,
        op: op as u16,
        buf_alloc: 4096,
        ..Header::default()
    }
}

/// The guest's answer to a packet of the host.
fn answer(header: &Header, op: Op) -> Header {
    from_guest(op, header.dst_port, header.src_port)
}

#[test]
fn a_header_survives_its_bytes() {
    let header = Header {
        src_cid: 0x0102_0304_0506_0708,
        dst_cid: 2,
        src_port: 3,
        dst_port: u32::MAX,
        len: 5,
        kind: 1,
        op: 7,
        flags: 3,
        buf_alloc: 9,
        fwd_cnt: 10,
    };
    let bytes = header.bytes();
    assert_eq!(bytes[..8], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(bytes[30], 7);
    assert_eq!(Header::parse(&bytes), header);
    for number in 0..10 {
        let known = (1..=7).contains(&number);
        assert_eq!(Op::from_number(number).map(|op| op as u16), known.then_some(number));
    }
}
