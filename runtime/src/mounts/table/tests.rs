#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const TABLE: &[u8] = b"\
24 1 0:22 / /proc rw,nosuid shared:13 - proc proc rw
30 24 0:26 / /run/s/aa rw - tmpfs tmpfs rw,mode=755
31 30 0:27 /x\\040y /run/s/aa/a\\040b\\134c rw,relatime shared:1 master:2 - overlay overlay rw,lowerdir=/l
32 31 0:27 / /run/s/aab rw - cgroup cgroup rw,cpu
broken line
";

#[test]
fn entries_are_read_and_unescaped() {
    let table = MountTable::parse(TABLE);
    assert_eq!(table.entries.len(), 4);
    let overlay = MountEntry {
        root: "/x y".into(),
        point: "/run/s/aa/a b\\c".into(),
        kind: "overlay".into(),
        options: "rw,lowerdir=/l".into(),
    };
    assert_eq!(table.entries[2], overlay);
}

#[test]
fn below_goes_by_whole_names_and_backwards() {
    let table = MountTable::parse(TABLE);
    let points = table.below(Path::new("/run/s/aa"));
    assert_eq!(points, [Path::new("/run/s/aa/a b\\c"), Path::new("/run/s/aa")]);
}

#[test]
fn a_directory_without_mounts_needs_nothing() {
    unmount_below(Path::new("/nonexistent/directory")).unwrap();
}
