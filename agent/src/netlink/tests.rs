#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = 16 + payload.len() as u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn read(chunk: &[u8]) -> (io::Result<bool>, Vec<Vec<u8>>) {
    let mut seen = Vec::new();
    let ended = read_chunk(chunk, &mut |payload| seen.push(payload.to_vec()));
    (ended, seen)
}

#[test]
fn messages_come_one_by_one_up_to_the_end() {
    let chunk = [message(20, b"a"), message(20, b"bcdef")].concat();
    let (ended, seen) = read(&chunk);
    assert!(!ended.unwrap());
    assert_eq!(seen, [b"a".to_vec(), b"bcdef".to_vec()]);
    let chunk = [message(20, b"a"), message(NLMSG_DONE, &[0; 4]), message(20, b"b")].concat();
    let (ended, seen) = read(&chunk);
    assert!(ended.unwrap());
    assert_eq!(seen, [b"a".to_vec()]);
}

#[test]
fn an_acknowledgement_is_an_end_and_an_error_has_its_number() {
    let answer = |code: i32| message(NLMSG_ERROR, &[&code.to_ne_bytes()[..], &[0; 16]].concat());
    assert!(read(&answer(0)).0.unwrap());
    let error = read(&answer(-libc::EEXIST)).0.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
    assert!(read(&answer(i32::MIN)).0.is_err());
}

#[test]
fn what_is_cut_short_is_an_error() {
    let whole = [message(20, b"abcd"), message(NLMSG_DONE, &[0; 4])].concat();
    for length in (1..whole.len()).filter(|length| *length != 20) {
        assert!(read(&whole[..length]).0.is_err(), "{length}");
    }
    let mut long = message(20, b"abcd");
    long[0] = 200;
    assert!(read(&long).0.is_err());
    long[0] = 3;
    assert!(read(&long).0.is_err());
}
