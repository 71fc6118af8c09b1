//! The state machine alone, packet by packet.

use std::time::{Duration, Instant};

use super::super::connection::{ANSWER, CLOSE, Effect};
use super::super::credit::WINDOW;
use super::super::mux::{Action, Mux, Next};
use super::*;

const ID: u64 = 7;

fn mux() -> Mux {
    Mux::new(CID, vec![HOST_PORT])
}

fn control(mux: &mut Mux) -> Header {
    match mux.next(Instant::now()) {
        Some(Next::Control(header)) => header,
        other => panic!("{other:?}"),
    }
}

fn op(header: &Header) -> Op {
    Op::from_number(header.op).unwrap()
}

/// A connection that the host asked for and the guest granted, and the
/// request.
fn open(mux: &mut Mux) -> Header {
    mux.request(ID, GUEST_PORT);
    let request = control(mux);
    assert_eq!(op(&request), Op::Request);
    let action = mux.packet(&answer(&request, Op::Response), 0);
    assert_eq!(action, Action::On(ID, Effect::Opened));
    request
}

fn data(request: &Header, len: u32) -> Header {
    Header { len, ..answer(request, Op::Data) }
}

const OVER: Action = Action::On(ID, Effect::Over { answered: true });

#[test]
fn the_host_asks_and_the_guest_grants() {
    let mut mux = mux();
    let key = mux.request(ID, GUEST_PORT);
    let request = control(&mut mux);
    assert_eq!((request.src_cid, request.dst_cid), (HOST_CID, CID.into()));
    assert_eq!((request.src_port, request.dst_port), (key.host_port, GUEST_PORT));
    assert_eq!((request.kind, request.buf_alloc, request.fwd_cnt), (STREAM, WINDOW, 0));
    assert_eq!(mux.next(Instant::now()), None, "asked once");
    mux.host_readable(ID);
    assert_eq!(mux.next(Instant::now()), None, "no data before the answer");
    mux.packet(&answer(&request, Op::Response), 0);
    assert_eq!(mux.next(Instant::now()), Some(Next::Data(ID, 4096)));
}

#[test]
fn the_guest_refuses() {
    let mut mux = mux();
    mux.request(ID, GUEST_PORT);
    let request = control(&mut mux);
    let action = mux.packet(&answer(&request, Op::Reset), 0);
    assert_eq!(action, Action::On(ID, Effect::Over { answered: false }));
    assert_eq!(mux.next(Instant::now()), None, "a reset is not answered");
}

#[test]
fn the_guest_asks() {
    let mut mux = mux();
    let request = from_guest(Op::Request, 5000, HOST_PORT);
    assert_eq!(mux.packet(&request, 0), Action::Connect);
    mux.accept(ID, &request);
    let response = control(&mut mux);
    assert_eq!(op(&response), Op::Response);
    assert_eq!((response.src_port, response.dst_port), (HOST_PORT, 5000));
    assert_eq!(mux.packet(&request, 0), OVER, "asked twice");
}

#[test]
fn other_ports_and_other_machines() {
    let mut mux = mux();
    for port in [0, 1, HOST_PORT - 1, HOST_PORT + 1, u32::MAX] {
        assert_eq!(mux.packet(&from_guest(Op::Request, 5000, port), 0), Action::Nothing);
        let reset = control(&mut mux);
        assert_eq!((op(&reset), reset.src_port, reset.dst_port), (Op::Reset, port, 5000));
    }
    let request = from_guest(Op::Request, 5000, HOST_PORT);
    for (src_cid, dst_cid) in [(4, 2), (2, 2), (0, 2), (3, 3), (3, 1), (3, 0), (3, u64::MAX)] {
        let spoofed = Header { src_cid, dst_cid, ..request };
        assert_eq!(mux.packet(&spoofed, 0), Action::Nothing);
        assert_eq!(mux.next(Instant::now()), None);
    }
}

#[test]
fn packets_of_no_connection_are_reset_and_resets_are_not() {
    let mut mux = mux();
    for number in (0..20).filter(|n| *n != Op::Request as u16 && *n != Op::Reset as u16) {
        let packet = Header { op: number, ..from_guest(Op::Data, 5000, HOST_PORT) };
        assert_eq!(mux.packet(&packet, 0), Action::Nothing);
        assert_eq!(op(&control(&mut mux)), Op::Reset);
    }
    mux.packet(&from_guest(Op::Reset, 5000, HOST_PORT), 0);
    assert_eq!(mux.next(Instant::now()), None);
    let datagram = Header { kind: 3, ..from_guest(Op::Request, 5000, HOST_PORT) };
    mux.packet(&datagram, 0);
    let reset = control(&mut mux);
    assert_eq!((op(&reset), reset.kind), (Op::Reset, 3));
}

#[test]
fn resets_that_the_guest_does_not_take_stop_its_packets() {
    let mut mux = mux();
    let mut sent = 0;
    while mux.takes_packets() {
        mux.packet(&from_guest(Op::Data, sent, HOST_PORT), 0);
        sent += 1;
        assert!(sent < 10_000);
    }
    control(&mut mux);
    assert!(mux.takes_packets());
}

#[test]
fn credit_to_the_guest() {
    let mut mux = mux();
    let request = open(&mut mux);
    mux.host_readable(ID);
    assert_eq!(mux.next(Instant::now()), Some(Next::Data(ID, 4096)));
    let header = mux.sent(ID, 4000).unwrap();
    assert_eq!((op(&header), header.len), (Op::Data, 4000));
    assert_eq!(mux.next(Instant::now()), Some(Next::Data(ID, 96)));
    mux.sent(ID, 96);
    assert_eq!(op(&control(&mut mux)), Op::CreditRequest);
    assert_eq!(mux.next(Instant::now()), None, "asked once");
    let update = Header { fwd_cnt: 1000, ..answer(&request, Op::CreditUpdate) };
    mux.packet(&update, 0);
    assert_eq!(mux.next(Instant::now()), Some(Next::Data(ID, 1000)));
    let shrunk = Header { buf_alloc: 10, ..update };
    mux.packet(&shrunk, 0);
    assert_eq!(op(&control(&mut mux)), Op::CreditRequest);
}

#[test]
fn a_guest_that_claims_to_have_taken_more_than_it_got_gets_nothing() {
    let mut mux = mux();
    let request = open(&mut mux);
    mux.packet(&Header { fwd_cnt: 1, ..answer(&request, Op::CreditUpdate) }, 0);
    mux.host_readable(ID);
    assert_eq!(op(&control(&mut mux)), Op::CreditRequest);
    assert_eq!(mux.next(Instant::now()), None);
}

#[test]
fn credit_from_the_guest() {
    let mut mux = mux();
    let request = open(&mut mux);
    let half = WINDOW / 2;
    let deliver = Action::On(ID, Effect::Deliver);
    assert_eq!(mux.packet(&data(&request, half), half), deliver);
    assert_eq!(mux.packet(&data(&request, half), half), deliver);
    mux.packet(&answer(&request, Op::CreditRequest), 0);
    let update = control(&mut mux);
    assert_eq!((op(&update), update.fwd_cnt), (Op::CreditUpdate, 0), "asked, and there is none");
    mux.forwarded(ID, 10);
    let update = control(&mut mux);
    assert_eq!((op(&update), update.fwd_cnt), (Op::CreditUpdate, 10));
    assert_eq!(mux.packet(&data(&request, 10), 10), deliver);
    assert_eq!(mux.packet(&data(&request, 1), 1), OVER, "more than it may");
    assert_eq!(op(&control(&mut mux)), Op::Reset);
}

#[test]
fn credit_is_told_before_the_guest_runs_out_and_not_for_every_byte() {
    let mut mux = mux();
    let request = open(&mut mux);
    let mut updates = 0;
    for _ in 0..100 {
        mux.packet(&data(&request, WINDOW / 16), WINDOW / 16);
        mux.forwarded(ID, WINDOW / 16);
        while let Some(Next::Control(header)) = mux.next(Instant::now()) {
            assert_eq!(op(&header), Op::CreditUpdate);
            updates += 1;
        }
    }
    assert!((10..=12).contains(&updates), "{updates} updates for 6.25 windows");
}

#[test]
fn counters_wrap_around() {
    let mut mux = mux();
    let request = open(&mut mux);
    mux.connection(ID).wrap_counters();
    let near = u32::MAX - 5;
    mux.packet(&Header { fwd_cnt: near, ..answer(&request, Op::CreditUpdate) }, 0);
    mux.host_readable(ID);
    assert_eq!(mux.next(Instant::now()), Some(Next::Data(ID, 4096)));
    mux.sent(ID, 4096);
    let taken = near.wrapping_add(4000);
    mux.packet(&Header { fwd_cnt: taken, ..answer(&request, Op::CreditUpdate) }, 0);
    assert_eq!(mux.next(Instant::now()), Some(Next::Data(ID, 4000)));
    let all = Header { fwd_cnt: taken, ..data(&request, WINDOW) };
    assert_eq!(mux.packet(&all, WINDOW), Action::On(ID, Effect::Deliver));
    mux.forwarded(ID, WINDOW);
    let update = control(&mut mux);
    assert_eq!(update.fwd_cnt, near.wrapping_add(WINDOW));
}

#[test]
fn more_data_than_the_packet_holds() {
    for len in [11, WINDOW, WINDOW + 1, u32::MAX] {
        let mut mux = mux();
        let request = open(&mut mux);
        assert_eq!(mux.packet(&data(&request, len), 10), OVER, "{len}");
        assert_eq!(op(&control(&mut mux)), Op::Reset);
        assert_eq!(mux.packet(&data(&request, 1), 1), Action::Nothing, "it is gone");
    }
}

#[test]
fn data_before_the_answer() {
    let mut mux = mux();
    mux.request(ID, GUEST_PORT);
    let request = control(&mut mux);
    assert_eq!(mux.packet(&data(&request, 1), 1), OVER);
}

#[test]
fn the_guest_closes_one_direction_and_then_the_other() {
    let mut mux = mux();
    let request = open(&mut mux);
    let shutdown = |flags| Header { flags, ..answer(&request, Op::Shutdown) };
    let shut = |read, write| Action::On(ID, Effect::Shut { read, write });
    assert_eq!(mux.packet(&shutdown(SHUT_SEND), 0), shut(false, true));
    mux.host_readable(ID);
    assert_eq!(mux.next(Instant::now()), Some(Next::Data(ID, 4096)), "the other is open");
    assert_eq!(mux.packet(&shutdown(SHUT_RECEIVE), 0), OVER);
    assert_eq!(op(&control(&mut mux)), Op::Reset);
    assert_eq!(mux.next(Instant::now()), None);
}

#[test]
fn the_guest_sends_after_its_shutdown() {
    let mut mux = mux();
    let request = open(&mut mux);
    mux.packet(&Header { flags: SHUT_SEND, ..answer(&request, Op::Shutdown) }, 0);
    assert_eq!(mux.packet(&data(&request, 1), 1), OVER);
}

#[test]
fn the_guest_receives_no_more() {
    let mut mux = mux();
    let request = open(&mut mux);
    mux.host_readable(ID);
    mux.packet(&Header { flags: SHUT_RECEIVE, ..answer(&request, Op::Shutdown) }, 0);
    mux.host_readable(ID);
    assert_eq!(mux.next(Instant::now()), None);
    assert!(!mux.reads_from_host(ID));
    assert_eq!(mux.packet(&data(&request, 1), 1), Action::On(ID, Effect::Deliver));
}

#[test]
fn the_host_closes_one_direction_and_then_the_other() {
    let mut mux = mux();
    let request = open(&mut mux);
    let now = Instant::now();
    mux.host_readable(ID);
    mux.host_shut(ID, SHUT_SEND, now);
    let shutdown = control(&mut mux);
    assert_eq!((op(&shutdown), shutdown.flags), (Op::Shutdown, SHUT_SEND));
    mux.host_readable(ID);
    assert_eq!(mux.next(now), None, "its end was reported");
    assert_eq!(mux.packet(&data(&request, 1), 1), Action::On(ID, Effect::Deliver));
    assert!(mux.host_gone(ID, now));
    let shutdown = control(&mut mux);
    assert_eq!((op(&shutdown), shutdown.flags), (Op::Shutdown, SHUT_BOTH));
    assert_eq!(mux.deadline(), Some(now + CLOSE));
    mux.host_shut(ID, SHUT_BOTH, now + Duration::from_secs(1));
    assert_eq!(mux.next(now), None, "reported once");
    assert_eq!(mux.overdue(now + CLOSE), [ID]);
    mux.give_up(ID);
    assert_eq!(op(&control(&mut mux)), Op::Reset);
}

#[test]
fn a_guest_that_does_not_answer() {
    let mut mux = mux();
    let now = Instant::now();
    mux.request(ID, GUEST_PORT);
    assert_eq!(mux.deadline(), None, "the time runs from when the guest gets it");
    mux.next(now).unwrap();
    assert_eq!(mux.deadline(), Some(now + ANSWER));
    assert!(mux.overdue(now + ANSWER - Duration::from_millis(1)).is_empty());
    assert_eq!(mux.overdue(now + ANSWER), [ID]);
}

#[test]
fn the_host_goes_before_the_answer() {
    let mut mux = mux();
    mux.request(ID, GUEST_PORT);
    assert!(!mux.host_gone(ID, Instant::now()));
    assert_eq!(mux.next(Instant::now()), None, "the guest never knew");
    mux.request(ID, GUEST_PORT);
    let request = control(&mut mux);
    assert!(!mux.host_gone(ID, Instant::now()));
    assert_eq!(op(&control(&mut mux)), Op::Reset);
    assert_eq!(mux.packet(&answer(&request, Op::Response), 0), Action::Nothing);
    assert_eq!(op(&control(&mut mux)), Op::Reset);
}

#[test]
fn connections_take_turns() {
    let mut mux = mux();
    for id in 0..3 {
        mux.request(id, GUEST_PORT);
        let request = control(&mut mux);
        mux.packet(&answer(&request, Op::Response), 0);
    }
    (0..3).for_each(|id| mux.host_readable(id));
    let mut turns = Vec::new();
    for _ in 0..6 {
        let Some(Next::Data(id, _)) = mux.next(Instant::now()) else { panic!("no data") };
        mux.sent(id, 1);
        turns.push(id);
    }
    assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn ports_of_the_host_are_not_used_twice() {
    let mut mux = mux();
    let mut ports: Vec<u32> = (0..1000).map(|id| mux.request(id, GUEST_PORT).host_port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 1000);
    assert!(ports.iter().all(|port| *port > 0xffff));
}
