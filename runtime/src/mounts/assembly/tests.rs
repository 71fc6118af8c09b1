#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::failure::ErrorKind;

/// Gives paths out, and keeps what was asked for.
#[derive(Default)]
struct Host {
    disks: Vec<(String, bool)>,
    directories: Vec<String>,
}

impl Provide for Host {
    fn disk(&mut self, source: &Path, read_only: bool) -> Result<PathBuf, MountError> {
        self.disks.push((in_words(source.to_owned()), read_only));
        Ok(PathBuf::from(format!("/disk/{}", self.disks.len())))
    }

    fn upper(&mut self, source: &Path) -> Result<PathBuf, MountError> {
        self.bind_directory(source)
    }

    fn bind_directory(&mut self, source: &Path) -> Result<PathBuf, MountError> {
        self.directories.push(in_words(source.to_owned()));
        Ok(PathBuf::from(format!("/share/{}", self.directories.len())))
    }
}

fn mount(kind: &str, source: &str, options: &[&str]) -> RootfsMount {
    RootfsMount {
        kind: kind.to_owned(),
        source: source.to_owned(),
        target: String::new(),
        options: options.iter().map(|word| (*word).to_owned()).collect(),
    }
}

fn said(mount: &Mount) -> String {
    format!("{} {} {}", mount.type_, mount.source, mount.options.join(","))
}

fn assembled(mounts: &[RootfsMount]) -> (Host, Vec<Mount>) {
    let mut host = Host::default();
    let made = assemble(mounts, "c", &mut host).unwrap();
    (host, made)
}

/// As the erofs snapshotter has it when writable layers are images.
#[test]
fn layers_of_erofs_under_an_image_of_ext4() {
    let (host, made) = assembled(&[
        mount("ext4", "/s/rw.img", &["rw", "loop"]),
        mount("erofs", "/s/2", &["ro", "loop"]),
        mount("erofs", "/s/1", &["ro", "loop", "device=/s/blob"]),
        mount(
            "format/mkdir/overlay",
            "overlay",
            &[
                "X-containerd.mkdir.path={{ mount 0 }}/upper:0755",
                "X-containerd.mkdir.path={{ mount 0 }}/work:0711:3:4",
                "workdir={{ mount 0 }}/work",
                "upperdir={{ mount 0 }}/upper",
                "lowerdir={{ overlay 1 2 }}",
                "index=off",
            ],
        ),
    ]);
    let disks = [("/s/rw.img", false), ("/s/2", true), ("/s/1", true), ("/s/blob", true)];
    assert_eq!(host.disks, disks.map(|(path, read_only)| (path.to_owned(), read_only)));
    assert!(host.directories.is_empty());
    let lines: Vec<String> = made.iter().map(said).collect();
    assert_eq!(
        lines,
        [
            "ext4 /disk/1 ",
            "erofs /disk/2 ro",
            "erofs /disk/3 ro,device=/disk/4",
            "overlay overlay workdir=/run/sandbox/r/c/0/work,upperdir=/run/sandbox/r/c/0/upper,\
             lowerdir+=/run/sandbox/r/c/1,lowerdir+=/run/sandbox/r/c/2,index=off",
        ]
    );
    let directories: Vec<_> =
        made[3].directories.iter().map(|d| (d.path.as_str(), d.mode, d.uid, d.gid)).collect();
    assert_eq!(
        directories,
        [("/run/sandbox/r/c/0/upper", 0o755, 0, 0), ("/run/sandbox/r/c/0/work", 0o711, 3, 4)]
    );
    assert!(is_writable(&made));
}

/// And when they are directories of the host.
#[test]
fn layers_of_erofs_under_a_directory_of_the_host() {
    let (host, made) = assembled(&[
        mount("erofs", "/s/1/layer.erofs", &["ro", "loop"]),
        mount(
            "format/mkdir/overlay",
            "overlay",
            &["workdir=/s/2/work", "upperdir=/s/2/fs", "lowerdir={{ mount 0 }}"],
        ),
    ]);
    assert_eq!(host.directories, ["/s/2"]);
    assert_eq!(
        said(&made[1]),
        "overlay overlay workdir=/share/1/work,upperdir=/share/1/fs,\
         lowerdir+=/run/sandbox/r/c/0,userxattr"
    );
}

/// Marks in the layers have other names than those in the share.
#[test]
fn several_layers_under_a_directory_of_the_host_are_an_overlay_of_their_own() {
    let lower = || mount("erofs", "/s/1", &["ro", "loop"]);
    let (_, made) = assembled(&[
        lower(),
        lower(),
        mount(
            "format/overlay",
            "overlay",
            &["workdir=/s/2/work", "upperdir=/s/2/fs", "lowerdir={{ overlay 0 1 }}", "index=off"],
        ),
        mount("format/bind", "{{ mount 2 }}", &["rbind"]),
    ]);
    let lines: Vec<String> = made[2..].iter().map(said).collect();
    assert_eq!(
        lines,
        [
            "overlay overlay lowerdir+=/run/sandbox/r/c/0,lowerdir+=/run/sandbox/r/c/1,ro",
            "overlay overlay workdir=/share/1/work,upperdir=/share/1/fs,index=off,userxattr,\
             lowerdir+=/run/sandbox/r/c/2",
            "bind /run/sandbox/r/c/3 rbind",
        ]
    );
}

#[test]
fn views_are_not_written_to() {
    let lower = mount("erofs", "/s/1", &["ro", "loop"]);
    let (_, single) = assembled(std::slice::from_ref(&lower));
    assert!(!is_writable(&single));
    let overlay = mount("format/mkdir/overlay", "overlay", &["lowerdir={{ overlay 0 1 }}"]);
    let (_, two) = assembled(&[lower.clone(), lower.clone(), overlay]);
    assert!(!is_writable(&two));
    let bound = mount("format/bind", "{{ mount 0 }}", &["ro", "rbind"]);
    let (_, one) = assembled(&[lower, bound]);
    assert_eq!(said(&one[1]), "bind /run/sandbox/r/c/0 ro,rbind");
    assert!(!is_writable(&one));
}

#[test]
fn only_what_the_guest_must_or_can_do_better_is_its() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    fs::write(&image, "x").unwrap();
    let image = image.to_str().unwrap();
    let mine = |mounts: &[RootfsMount]| is_for_guest(mounts);
    assert!(mine(&[mount("ext4", image, &["loop", "rw"])]));
    assert!(mine(&[mount("erofs", "/s/1", &["ro"]), mount("overlay", "overlay", &[])]));
    assert!(mine(&[mount("format/overlay", "overlay", &[])]));
    // Without the word, a file cannot be mounted by the host either.
    assert!(!mine(&[mount("ext4", image, &["rw"])]));
    // File systems that only the host may know.
    assert!(!mine(&[mount("xfs", image, &["loop"])]));
    assert!(!mine(&[mount("overlay", "overlay", &[]), mount("bind", "/s", &["rbind"])]));
    let below = RootfsMount { target: "/data".to_owned(), ..mount("ext4", image, &["loop"]) };
    assert!(!mine(&[below]));
}

#[test]
fn what_cannot_be_is_said() {
    let erofs = || mount("erofs", "/s/1", &["ro"]);
    for (mounts, words) in [
        (vec![mount("mkfs/ext4", "/s/1", &[])], "\"mkfs\" is containerd's to do"),
        (vec![mount("format/tmpfs", "tmpfs", &[])], "no file system \"tmpfs\""),
        (vec![erofs(), mount("format/bind", "{{ mount 1 }}", &[])], "names a mount that is not"),
        (vec![erofs(), mount("format/bind", "{{ mount 0", &[])], "has no end"),
        (vec![erofs(), mount("format/bind", "{{ host }}", &[])], "{{ host }} is not known"),
        (vec![mount("erofs", "/s/1", &["X-containerd.dmverity=/m"])], "dmverity=/m\" is not known"),
        (vec![mount("mkdir/bind", "/s", &["X-containerd.mkdir.path=/etc/x"])], "not in one of"),
        (
            vec![
                erofs(),
                mount("format/mkdir/bind", "/s", &["X-containerd.mkdir.path={{ mount 0 }}:9"]),
            ],
            "is not path:mode:uid:gid",
        ),
        (vec![RootfsMount { target: "/a".to_owned(), ..erofs() }], "a target of its own"),
    ] {
        let error = assemble(&mounts, "c", &mut Host::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(words), "{error}");
    }
}
