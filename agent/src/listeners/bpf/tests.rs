#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

/// How a load ends, and how often it was tried, when it fails so often.
fn load(failures: usize, errno: i32) -> (io::Result<usize>, usize) {
    let mut tried = 0;
    let loaded = until_uninterrupted(|| {
        tried += 1;
        if tried <= failures { Err(io::Error::from_raw_os_error(errno)) } else { Ok(tried) }
    });
    (loaded, tried)
}

#[test]
fn a_signal_does_not_keep_a_program_from_being_loaded() {
    assert_eq!(load(0, libc::EAGAIN).0.unwrap(), 1);
    assert_eq!(load(3, libc::EAGAIN).0.unwrap(), 4);
    let (loaded, tried) = load(usize::MAX, libc::EAGAIN);
    assert_eq!((loaded.unwrap_err().raw_os_error(), tried), (Some(libc::EAGAIN), LOADS));
    let (loaded, tried) = load(3, libc::EPERM);
    assert_eq!((loaded.unwrap_err().raw_os_error(), tried), (Some(libc::EPERM), 1));
}
