//! A pod's network process that gives the answers that a test wants.

#![allow(clippy::unwrap_used)]

use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use sandbox_runtime::network::Client;
use sandbox_vm_spec::network::{Reply, Request, receive, send};

/// A client, and the process at its other end, which gives the requests that
/// it had.
pub struct Fake {
    pub client: Client,
    server: JoinHandle<Vec<Request>>,
    _dir: tempfile::TempDir,
}

impl Fake {
    /// Answers one request with these, and hangs up.
    pub fn new(replies: Vec<Reply>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("net.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let client = Client::connect(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let asked = receive(&mut stream, 10_000).unwrap().into_iter().collect();
            for reply in replies {
                send(&mut stream, &reply).unwrap();
            }
            asked
        });
        Self { client, server, _dir: dir }
    }

    /// What was asked.
    pub fn asked(self) -> Vec<Request> {
        drop(self.client);
        self.server.join().unwrap()
    }
}
