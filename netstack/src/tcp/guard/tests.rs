#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::tcp::segment::{ACK, HEADER};

fn tell(guard: &mut Guard, ack: u32, free: u32, shift: u8) -> u32 {
    let window = u16::try_from(free >> shift).unwrap();
    let mut tcp = [0; HEADER];
    tcp[WINDOW..WINDOW + 2].copy_from_slice(&window.to_be_bytes());
    let sent =
        Segment { from: 1, to: 2, seq: 0, ack, flags: ACK, window, header: HEADER, payload: 0 };
    guard.note(&sent, &mut tcp);
    let told = u32::from(u16::from_be_bytes([tcp[WINDOW], tcp[WINDOW + 1]])) << shift;
    assert!(told <= free, "more was promised than there is room for");
    ack.wrapping_add(told)
}

/// Group 4: while the host reads nothing the edge stays, whatever the guest's
/// segments are long, also where sequence numbers wrap.
#[test]
fn the_edge_does_not_move_back() {
    const CAPACITY: u32 = 262_143;
    for start in [0u32, 0xffff_ff00] {
        let mut guard = Guard::new(2);
        let (mut used, mut edge) = (0, None);
        for step in [1, 1447, 3, 1448, 5, 2, 65_483, 1, 1, 7, 40_001, 13].iter().cycle().take(40) {
            let next = tell(&mut guard, start.wrapping_add(used), CAPACITY - used, 2);
            if let Some(edge) = edge {
                assert!(ahead(next, edge) >= 0, "back by {} at {used}", ahead(edge, next));
            }
            edge = Some(next);
            used += step.min(&(next.wrapping_sub(start) - used));
        }
    }
}

/// Group 4: a FIN counts only where everything before it is taken.
#[test]
fn a_fin_beyond_the_edge_is_cleared() {
    let mut guard = Guard::new(2);
    tell(&mut guard, 1000, 4001, 2);
    let fin = |payload| {
        let segment = Segment {
            from: 1,
            to: 2,
            seq: 1000,
            ack: 0,
            flags: FIN | ACK,
            window: 0,
            header: HEADER,
            payload,
        };
        let mut tcp = [0; HEADER];
        tcp[FLAGS] = segment.flags;
        let cleared = guard.check(&segment, &mut tcp);
        assert_eq!(cleared, tcp[FLAGS] & FIN == 0);
        cleared
    };
    assert!(!fin(0));
    assert!(!fin(4000));
    assert!(fin(4001), "the odd byte is cut by the scale");
    assert!(fin(5000));
}
