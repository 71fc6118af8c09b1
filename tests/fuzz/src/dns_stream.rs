//! Any bytes of the guest and of a server on a TCP connection for DNS, in
//! pieces: cut otherwise, the same comes out.
#![no_main]

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sandbox_netstack::dns::{Channel, MAX_MESSAGE, Observer, Stream};
use sandbox_netstack::policy::{Document, Layer, Place, Policy};

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let text = "version = 1\n[[rule]]\nid = \"yes\"\ndir = \"egress\"\naction = \"allow\"\n\
                name = [\"*.example.com\"]\n";
    let document = Document::load(text).unwrap().document;
    Policy::new(&Layer::Unset, &Layer::Read(document.into()), Place::default(), 1)
});

/// Passes pieces of at most `most` bytes, each with its side.
fn run(bytes: &[u8], most: usize) -> (Vec<u8>, Vec<u8>) {
    let server: SocketAddr = "10.96.0.10:53".parse().unwrap();
    let mut observer = Observer::new();
    let mut stream = Stream::default();
    let channel = Channel(1);
    let now = Duration::from_secs(100);
    let (mut to_server, mut to_guest) = (vec![], vec![]);
    let mut rest = bytes;
    while let [who, length, after @ ..] = rest {
        let (piece, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        for part in piece.chunks(most) {
            let passed = match who & 1 {
                0 => stream.from_guest(part, |message| {
                    observer.from_guest(&POLICY, channel, server, message, now)
                }),
                _ => stream.from_server(part, |message| {
                    observer.from_server(&POLICY, channel, server, message, now)
                }),
            };
            to_server.extend(passed.to_server);
            to_guest.extend(passed.to_guest);
            assert!(stream.pending() <= 2 * (2 + MAX_MESSAGE));
        }
    }
    (to_server, to_guest)
}

fuzz_target!(|bytes: &[u8]| {
    assert_eq!(run(bytes, usize::MAX), run(bytes, 1));
});
