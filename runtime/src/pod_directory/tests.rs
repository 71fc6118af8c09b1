#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::sync::Barrier;

use super::*;
use crate::cleanup::remove_locked;

fn id() -> PodId {
    PodId::new("default", "a").unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn directorys_and_files_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let directory = PodDirectory::create(dir.path(), &id(), remove_locked).unwrap();
    directory.set_up().unwrap();
    directory.listen(&directory.vsock()).unwrap();
    for path in [directory.path(), &directory.sockets(), &directory.hooks()] {
        assert_eq!(mode(path), 0o700, "{path:?}");
    }
    // The guest's users pass through these; the first of all keeps out others.
    for path in [directory.tree(), directory.share()] {
        assert_eq!(mode(&path), 0o711, "{path:?}");
    }
    for path in [directory.console(), directory.vsock()] {
        assert_eq!(mode(&path), 0o600, "{path:?}");
    }
    directory.remove().unwrap();
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn the_share_is_seen_and_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let directory = PodDirectory::create(dir.path(), &id(), remove_locked).unwrap();
    directory.set_up().unwrap();
    fs::create_dir(directory.tree().join("c")).unwrap();
    assert!(directory.share().join("c").is_dir());
    let error = File::create(directory.share().join("x")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    directory.remove().unwrap();
}

#[test]
fn a_running_pod_keeps_its_directory_and_a_dead_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let directory = PodDirectory::create(dir.path(), &id(), remove_locked).unwrap();
    directory.set_up().unwrap();
    assert_eq!(
        PodDirectory::create(dir.path(), &id(), remove_locked).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    // As if its shim were killed: the lock goes, the rest stays.
    drop(directory);
    let next = PodDirectory::create(dir.path(), &id(), remove_locked).unwrap();
    assert!(next.is_empty().unwrap());
    next.remove().unwrap();
}

#[test]
fn of_many_starters_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let barrier = Barrier::new(20);
    let won: Vec<PodDirectory> = std::thread::scope(|scope| {
        let start = || {
            barrier.wait();
            let directory = PodDirectory::create(dir.path(), &id(), remove_locked)?;
            directory.set_up()?;
            Ok::<_, PodDirectoryError>(directory)
        };
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(start)).collect();
        threads.into_iter().filter_map(|t| t.join().unwrap().ok()).collect()
    });
    let [winner] = <[PodDirectory; 1]>::try_from(won).unwrap();
    assert!(winner.share().is_dir());
    winner.remove().unwrap();
}

#[test]
fn a_symlink_in_its_place_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("precious"), "x").unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(id().directory())).unwrap();
    assert!(PodDirectory::create(dir.path(), &id(), remove_locked).is_err());
    assert!(elsewhere.path().join("precious").exists());
}

#[test]
fn a_mount_in_the_directory_survives_its_removal() {
    let dir = tempfile::tempdir().unwrap();
    let volume = tempfile::tempdir().unwrap();
    fs::write(volume.path().join("precious"), "x").unwrap();
    let directory = PodDirectory::create(dir.path(), &id(), remove_locked).unwrap();
    directory.set_up().unwrap();
    let point = directory.tree().join("v");
    fs::create_dir(&point).unwrap();
    mount_bind(volume.path(), directory.share().join("v")).unwrap();
    assert!(directory.share().join("v/precious").exists());
    directory.remove().unwrap();
    assert!(volume.path().join("precious").exists());
}

/// As a child of a dead holder has it, between fork and exec.
#[test]
fn a_lock_that_outlives_its_holder_for_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let directory = PodDirectory::create(dir.path(), &id(), remove_locked).unwrap();
    let path = directory.path().to_owned();
    let copy = directory._lock.try_clone().unwrap();
    drop(directory);
    let child = thread::spawn(move || {
        thread::sleep(STRAGGLERS / 10);
        drop(copy);
    });
    assert!(PodDirectory::open(path).unwrap().is_some());
    child.join().unwrap();
}

#[test]
fn the_wire_connects_and_has_no_path() {
    let dir = tempfile::tempdir().unwrap();
    let directory = PodDirectory::create(dir.path(), &id(), remove_locked).unwrap();
    let (listener, mut stream) = directory.wire("rng").unwrap();
    stream.write_all(b"x").unwrap();
    let (mut other, _) = listener.accept().unwrap();
    let mut byte = [0];
    io::Read::read_exact(&mut other, &mut byte).unwrap();
    assert_eq!(&byte, b"x");
    assert!(directory.is_empty().unwrap());
    directory.remove().unwrap();
}
