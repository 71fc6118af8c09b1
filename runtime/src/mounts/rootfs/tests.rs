#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn overlay(layers: usize) -> Vec<String> {
    let base = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
    let lowers: Vec<String> = (1..=layers).map(|n| format!("{base}/{n}/fs")).collect();
    vec![
        "index=off".to_owned(),
        format!("upperdir={base}/999/fs"),
        format!("lowerdir={}", lowers.join(":")),
    ]
}

#[test]
fn many_layers_fit_a_page() {
    let data = overlay(100);
    assert!(data.join(",").len() > MAX_DATA);
    let short = Shortened::of(&data).unwrap();
    let text = short.data.to_str().unwrap();
    assert!(short.directory.ends_with("snapshots"));
    assert!(text.starts_with("index=off,upperdir=/var/lib"), "{text}");
    assert!(text.contains(",lowerdir=1/fs:2/fs:3/fs:"), "{text}");
}

#[test]
fn what_cannot_be_shortened_is_refused() {
    assert!(Shortened::of(&["x".repeat(5000)]).is_none());
    assert!(Shortened::of(&overlay(2000)).is_none());
}

#[test]
fn the_common_directory_is_above_all() {
    let directory = |paths: &[&str]| common_directory(paths.iter().copied());
    assert_eq!(directory(&["/a/b/c", "/a/b/d"]), Some("/a/b".into()));
    assert_eq!(directory(&["/a/b/c", "/a/b"]), Some("/a".into()));
    assert_eq!(directory(&["/a/bc", "/a/bd"]), Some("/a".into()));
    assert_eq!(directory(&["/a", "/b"]), Some("/".into()));
    assert_eq!(directory(&["a/b", "/b"]), None);
}

#[test]
fn targets_stay_in_the_rootfs() {
    let dir = tempfile::tempdir().unwrap();
    let rootfs = dir.path();
    assert_eq!(Point::find(rootfs, "").unwrap().path, rootfs);
    assert!(matches!(Point::find(rootfs, "a/../.."), Err(MountError::Climbs(_))));
    fs::create_dir(rootfs.join("etc")).unwrap();
    std::os::unix::fs::symlink("/etc", rootfs.join("link")).unwrap();
    let point = Point::find(rootfs, "link").unwrap();
    assert_eq!(fs::read_link(&point.path).unwrap(), rootfs.canonicalize().unwrap().join("etc"));
}

#[test]
fn a_failure_names_type_and_source() {
    let dir = tempfile::tempdir().unwrap();
    let spec = RootfsMount {
        kind: "nosuchfs".into(),
        source: "/some/source".into(),
        target: String::new(),
        options: Vec::new(),
    };
    let text =
        mount_rootfs(&[spec], &dir.path().join("stage"), dir.path()).unwrap_err().to_string();
    assert!(text.contains("nosuchfs") && text.contains("/some/source"), "{text}");
}
