#![allow(clippy::unwrap_used)]
use std::fs;
use std::os::unix::net::UnixListener;
use std::thread;

use sandbox_vm_spec::network::{PolicySource, receive, send};

use super::*;
use crate::config::NetworkConfig;

/// A pod's directory and what its process was asked, when it gives this answer.
fn set(
    reply: Reply,
    asked: Option<&str>,
) -> (Result<Set, SetError>, Option<Request>, Option<Policies>) {
    let dir = tempfile::tempdir().unwrap();
    let id = PodId::new("test", "one").unwrap();
    let network =
        NetworkConfig { policy: Some(dir.path().join("node.toml")), ..NetworkConfig::default() };
    fs::write(dir.path().join("node.toml"), "version = 1\n").unwrap();
    let config = Config { state_dir: dir.path().to_owned(), network, ..Config::default() };
    let directory = dir.path().join(id.directory());
    fs::create_dir(&directory).unwrap();
    let listener = UnixListener::bind(network_in(&directory)).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = receive(&mut stream, 10_000).unwrap();
        if request.is_some() {
            send(&mut stream, &reply).unwrap();
        }
        request
    });
    let set = set_policy(&config, &id, asked, true);
    // Ends the server where nothing was asked.
    drop(std::os::unix::net::UnixStream::connect(network_in(&directory)));
    (set, server.join().unwrap(), super::super::pod_policies(&config, &id).ok())
}

#[test]
fn what_is_in_force_is_kept() {
    let (told, request, kept) =
        set(Reply::PolicySet { generation: 2, ended: 7 }, Some("version = 1"));
    assert_eq!(told.unwrap(), Set { generation: 2, ended: 7 });
    let text = |text: &str| PolicySource::Text(text.to_owned());
    let (node, pod) = (text("version = 1\n"), text("version = 1"));
    let expected = Request::SetPolicy { node: node.clone(), pod: pod.clone(), recheck: true };
    assert_eq!(request, Some(expected));
    assert_eq!(kept, Some(Policies { node, pod }));
}

#[test]
fn what_is_refused_is_not_kept() {
    let refused = Reply::Failed { error: "no".to_owned() };
    let (told, _, kept) = set(refused, None);
    assert_eq!(told.unwrap_err().to_string(), "no");
    assert_eq!(kept, None);
    // One that is not valid is not even asked for.
    let (told, request, kept) = set(Reply::Done, Some("version = 9"));
    assert!(matches!(told, Err(SetError::Policy(PolicyError::Inline(_)))));
    assert_eq!((request, kept), (None, None));
}
