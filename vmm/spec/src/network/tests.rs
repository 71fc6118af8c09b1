#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn what_is_sent_is_received() {
    let requests = [
        Request::Flows,
        Request::Listeners { listeners: vec![Listener::udp("[::]:80".parse().unwrap())] },
        Request::SetPolicy {
            node: PolicySource::Unset,
            pod: PolicySource::Text("version = 1".into()),
            recheck: true,
        },
    ];
    let mut stream = Vec::new();
    for request in &requests {
        send(&mut stream, request).unwrap();
    }
    let mut stream = stream.as_slice();
    for request in requests {
        assert_eq!(receive(&mut stream, MAX_REQUEST).unwrap(), Some(request));
    }
    assert_eq!(receive::<Request>(&mut stream, MAX_REQUEST).unwrap(), None);
}

/// R2: refused before anything of that size is there.
#[test]
fn a_length_beyond_the_bound_is_refused() {
    for length in [5_u32, u32::MAX] {
        let error = receive::<Request>(&mut length.to_be_bytes().as_slice(), 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
}

/// R1.
#[test]
fn an_end_within_a_frame_is_an_error() {
    let mut frame = Vec::new();
    send(&mut frame, &Request::Flows).unwrap();
    for end in 1..frame.len() {
        let error = receive::<Request>(&mut &frame[..end], MAX_REQUEST).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{end}: {error}");
    }
}
