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
fn folders_and_files_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::create(dir.path(), &id(), remove_locked).unwrap();
    folder.furnish().unwrap();
    folder.listen(&folder.vsock()).unwrap();
    for path in [folder.path(), &folder.sockets(), &folder.hooks()] {
        assert_eq!(mode(path), 0o700, "{path:?}");
    }
    // The guest's users pass through these; the first of all keeps out others.
    for path in [folder.tree(), folder.share()] {
        assert_eq!(mode(&path), 0o711, "{path:?}");
    }
    for path in [folder.console(), folder.vsock()] {
        assert_eq!(mode(&path), 0o600, "{path:?}");
    }
    folder.remove().unwrap();
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn the_share_is_seen_and_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::create(dir.path(), &id(), remove_locked).unwrap();
    folder.furnish().unwrap();
    fs::create_dir(folder.tree().join("c")).unwrap();
    assert!(folder.share().join("c").is_dir());
    let error = File::create(folder.share().join("x")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    folder.remove().unwrap();
}

#[test]
fn a_running_pod_keeps_its_folder_and_a_dead_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::create(dir.path(), &id(), remove_locked).unwrap();
    folder.furnish().unwrap();
    assert_eq!(
        Folder::create(dir.path(), &id(), remove_locked).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    // As if its shim were killed: the lock goes, the rest stays.
    drop(folder);
    let next = Folder::create(dir.path(), &id(), remove_locked).unwrap();
    assert!(next.is_empty().unwrap());
    next.remove().unwrap();
}

#[test]
fn of_many_starters_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let barrier = Barrier::new(20);
    let won: Vec<Folder> = std::thread::scope(|scope| {
        let start = || {
            barrier.wait();
            let folder = Folder::create(dir.path(), &id(), remove_locked)?;
            folder.furnish()?;
            Ok::<_, FolderError>(folder)
        };
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(start)).collect();
        threads.into_iter().filter_map(|t| t.join().unwrap().ok()).collect()
    });
    let [winner] = <[Folder; 1]>::try_from(won).unwrap();
    assert!(winner.share().is_dir());
    winner.remove().unwrap();
}

#[test]
fn a_symlink_in_its_place_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("precious"), "x").unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(id().folder())).unwrap();
    assert!(Folder::create(dir.path(), &id(), remove_locked).is_err());
    assert!(elsewhere.path().join("precious").exists());
}

#[test]
fn a_mount_in_the_folder_survives_its_removal() {
    let dir = tempfile::tempdir().unwrap();
    let volume = tempfile::tempdir().unwrap();
    fs::write(volume.path().join("precious"), "x").unwrap();
    let folder = Folder::create(dir.path(), &id(), remove_locked).unwrap();
    folder.furnish().unwrap();
    let point = folder.tree().join("v");
    fs::create_dir(&point).unwrap();
    mount_bind(volume.path(), folder.share().join("v")).unwrap();
    assert!(folder.share().join("v/precious").exists());
    folder.remove().unwrap();
    assert!(volume.path().join("precious").exists());
}

/// As a child of a dead holder has it, between fork and exec.
#[test]
fn a_lock_that_outlives_its_holder_for_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::create(dir.path(), &id(), remove_locked).unwrap();
    let path = folder.path().to_owned();
    let copy = folder._lock.try_clone().unwrap();
    drop(folder);
    let child = thread::spawn(move || {
        thread::sleep(STRAGGLERS / 10);
        drop(copy);
    });
    assert!(Folder::open(path).unwrap().is_some());
    child.join().unwrap();
}

#[test]
fn the_wire_connects_and_has_no_path() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::create(dir.path(), &id(), remove_locked).unwrap();
    let (listener, mut stream) = folder.wire("rng").unwrap();
    stream.write_all(b"x").unwrap();
    let (mut other, _) = listener.accept().unwrap();
    let mut byte = [0];
    io::Read::read_exact(&mut other, &mut byte).unwrap();
    assert_eq!(&byte, b"x");
    assert!(folder.is_empty().unwrap());
    folder.remove().unwrap();
}
