//! Root file systems that the guest puts together of disks, by the mounts that
//! containerd's snapshotters give.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use containerd_shim_protos::types::mount::Mount;
use sandbox_tests::disk::{LoopDevice, assert_sound, erofs, ext4, file_in_ext4, opaque};
use sandbox_tests::{Bed, code, rootfs_mount, spec, tests};
use serde_json::{Value, json};

tests![
    Ours an_image_of_ext4_is_a_disk,
    Ours a_block_device_is_a_disk,
    Ours a_read_only_disk_is_not_written,
    Ours discarded_blocks_are_the_hosts_again,
    Ours a_hundred_layers_of_erofs,
    Ours layers_of_erofs_under_a_disk,
    Ours a_view_of_one_layer,
    Ours disks_come_and_go_in_a_pod,
    Ours what_is_no_disk_is_refused,
];

/// Size of images here, in MiB.
const MIB: u32 = 64;

fn shell(line: &str) -> Value {
    spec(&["sh", "-c", line])
}

fn ext4_image(bed: &Bed, name: &str) -> PathBuf {
    let image = bed.dir().join(format!("{name}.img"));
    ext4(&bed.rootfs(name), &image, MIB);
    image
}

/// What blockfile gives.
fn looped(image: &Path) -> Vec<Mount> {
    vec![rootfs_mount("ext4", image, &["loop", "rw"])]
}

fn an_image_of_ext4_is_a_disk(bed: &Bed) {
    let image = ext4_image(bed, "a");
    let line = "grep ' / ' /proc/mounts; echo text >/made; id -u; cat /made";
    let out = bed.shim("a", shell(line)).run_on(looped(&image), b"").ok();
    let text = out.text();
    assert!(text.contains(" / ext4 rw"), "{text}");
    assert!(text.ends_with("0\ntext"), "{text}");
    assert_sound(&image);
    assert_eq!(file_in_ext4(&image, "/made"), "text\n");
}

/// What devmapper gives.
fn a_block_device_is_a_disk(bed: &Bed) {
    let image = ext4_image(bed, "a");
    let device = LoopDevice::of(&image);
    let mounts = vec![rootfs_mount("ext4", device.path(), &["discard"])];
    let line = "grep ' / ' /proc/mounts; echo text >/made";
    let out = bed.shim("a", shell(line)).run_on(mounts, b"").ok();
    assert!(out.text().contains("discard"), "{}", out.text());
    drop(device);
    assert_sound(&image);
    assert_eq!(file_in_ext4(&image, "/made"), "text\n");
}

fn a_read_only_disk_is_not_written(bed: &Bed) {
    let image = ext4_image(bed, "a");
    let before = fs::read(&image).unwrap();
    let mounts = vec![rootfs_mount("ext4", &image, &["loop", "ro"])];
    let out = bed.shim("a", shell("touch /file")).run_on(mounts, b"").exits(1);
    assert!(out.errors().contains("Read-only file system"), "{}", out.errors());
    assert!(fs::read(&image).unwrap() == before, "the image was written to");
}

fn discarded_blocks_are_the_hosts_again(bed: &Bed) {
    let image = ext4_image(bed, "a");
    let before = image.metadata().unwrap().blocks();
    let mut spec = shell(
        "dd if=/dev/urandom of=/big bs=1M count=24 && sync && stat -f -c %f / && rm /big && \
         sync && fstrim -v /",
    );
    for set in ["bounding", "effective", "permitted"] {
        let set = spec["process"]["capabilities"][set].as_array_mut().unwrap();
        set.push(json!("CAP_SYS_ADMIN"));
    }
    bed.shim("a", spec).run_on(looped(&image), b"").ok();
    let after = image.metadata().unwrap().blocks();
    // In blocks of 512 bytes; a few are written to, of what is about the files.
    assert!(after < before + (8 << 11), "{before} blocks before and {after} after");
    assert_sound(&image);
}

/// Layers, the topmost first as containerd has them; the lowest is the image.
fn layers(bed: &Bed, count: usize) -> Vec<Mount> {
    let below = bed.dir().join("layer-0.erofs");
    erofs(&bed.rootfs("layers"), &below);
    let mut layers = vec![below];
    for number in 1..count {
        let root = bed.dir().join(format!("layer-{number}"));
        fs::create_dir_all(root.join("layers")).unwrap();
        fs::write(root.join(format!("layers/{number}")), format!("{number}\n")).unwrap();
        fs::write(root.join("layers/top"), format!("{number}\n")).unwrap();
        hide(&root, number);
        layers.push(root.with_extension("erofs"));
        erofs(&root, &layers[number]);
    }
    layers.iter().rev().map(|layer| rootfs_mount("erofs", layer, &["ro", "loop"])).collect()
}

/// What layers say of those below: the first but one has files that the second
/// but one removes, one by a whiteout and one with its whole folder.
fn hide(root: &Path, number: usize) {
    match number {
        1 => {
            for name in ["hidden", "opaque"] {
                fs::create_dir(root.join(name)).unwrap();
                fs::write(root.join(name).join("below"), "").unwrap();
            }
        }
        2 => {
            use nix::sys::stat::{Mode, SFlag, makedev, mknod};
            let whiteout = (SFlag::S_IFCHR, Mode::empty(), makedev(0, 0));
            mknod(&root.join("hidden"), whiteout.0, whiteout.1, whiteout.2).unwrap();
            fs::create_dir(root.join("opaque")).unwrap();
            fs::write(root.join("opaque/above"), "").unwrap();
            opaque(&root.join("opaque"));
        }
        _ => {}
    }
}

fn a_hundred_layers_of_erofs(bed: &Bed) {
    let snapshot = bed.dir().join("snapshot");
    for name in ["fs", "work"] {
        fs::create_dir_all(snapshot.join(name)).unwrap();
    }
    let mut mounts = layers(bed, 100);
    let options = [
        format!("workdir={}", snapshot.join("work").display()),
        format!("upperdir={}", snapshot.join("fs").display()),
        "lowerdir={{ overlay 0 99 }}".to_owned(),
    ];
    let words: Vec<&str> = options.iter().map(String::as_str).collect();
    mounts.push(rootfs_mount("format/mkdir/overlay", Path::new("overlay"), &words));
    let line = "ls -d /hidden /opaque/*; ls /layers | wc -l; cat /layers/top /layers/1; echo text >/layers/1; rm /bin/vi; \
                mv /layers/2 /layers/moved; mkdir /made; chown 7:8 /made; ls /bin/vi; cat /layers/1";
    let out = bed.shim("a", shell(line)).run_on(mounts, b"").ok();
    assert_eq!(out.text(), "/opaque/above\n100\n99\n1\ntext");
    let upper = snapshot.join("fs");
    assert_eq!(fs::read_to_string(upper.join("layers/1")).unwrap(), "text\n");
    assert_eq!(fs::read_to_string(upper.join("layers/moved")).unwrap(), "2\n");
    let made = upper.join("made").metadata().unwrap();
    assert_eq!((made.uid(), made.gid()), (7, 8));
    // A whiteout, by which differs of containerd know of what was removed.
    let gone = fs::symlink_metadata(upper.join("bin/vi")).unwrap();
    assert_eq!((gone.mode() & 0o170_000, gone.rdev()), (0o020_000, 0));
}

/// What the erofs snapshotter gives with `default_size`, once containerd has
/// made the image.
fn layers_of_erofs_under_a_disk(bed: &Bed) {
    let image = bed.dir().join("rwlayer.img");
    let empty = bed.dir().join("empty");
    fs::create_dir(&empty).unwrap();
    ext4(&empty, &image, MIB);
    let mut mounts = vec![rootfs_mount("ext4", &image, &["rw", "loop"])];
    mounts.extend(layers(bed, 3));
    let options = [
        "X-containerd.mkdir.path={{ mount 0 }}/upper:0755",
        "X-containerd.mkdir.path={{ mount 0 }}/work:0755",
        "workdir={{ mount 0 }}/work",
        "upperdir={{ mount 0 }}/upper",
        "lowerdir={{ overlay 1 3 }}",
    ];
    mounts.push(rootfs_mount("format/mkdir/overlay", Path::new("overlay"), &options));
    // Twice, as after a restart of the container.
    for (name, before) in [("a", "none"), ("b", "text")] {
        let line = "ls -d /hidden /opaque/*; cat /etc/mark || echo none; echo text >/etc/mark; cat /layers/top; \
                    df -k / | tail -1 | awk '{ print ($2 < 65536) }'";
        let out = bed.shim(name, shell(line)).run_on(mounts.clone(), b"").ok();
        assert_eq!(out.text(), format!("/opaque/above\n{before}\n2\n1"));
    }
    assert_sound(&image);
    assert_eq!(file_in_ext4(&image, "/upper/etc/mark"), "text\n");
}

fn a_view_of_one_layer(bed: &Bed) {
    let line = "ls /etc >/dev/null && touch /file";
    let out = bed.shim("a", shell(line)).run_on(layers(bed, 1), b"").exits(1);
    assert!(out.errors().contains("Read-only file system"), "{}", out.errors());
}

fn disks_come_and_go_in_a_pod(bed: &Bed) {
    let image = ext4_image(bed, "a");
    let other = ext4_image(bed, "b");
    let shim = bed.shim("pod", shell("sleep 600"));
    shim.create(&shim.request(bed.rootfs("pod"))).unwrap();
    shim.rpc().start().unwrap();
    let (stays, _) =
        shim.member_on(bed, &bed.id("stays"), shell("sleep 600"), looped(&other)).unwrap();
    stays.start().unwrap();
    for turn in 0..20 {
        let name = bed.id(&format!("turn-{turn}"));
        let line = format!("echo {turn} >>/turns; wc -l </turns");
        let (rpc, out) = shim.member_on(bed, &name, shell(&line), looped(&image)).unwrap();
        rpc.start().unwrap();
        assert_eq!(rpc.wait().unwrap().exit_status, 0);
        rpc.delete().unwrap();
        assert_eq!(fs::read_to_string(out).unwrap().trim(), (turn + 1).to_string());
    }
    for rpc in [&stays, shim.rpc()] {
        rpc.kill(9, true).unwrap();
        rpc.wait().unwrap();
        rpc.delete().unwrap();
    }
    assert_sound(&image);
    assert_sound(&other);
    shim.shutdown();
}

/// The rest of the pod is unharmed, and nothing is left of the container.
fn what_is_no_disk_is_refused(bed: &Bed) {
    use ttrpc::Code;
    let shim = bed.shim("pod", shell("sleep 600"));
    shim.create(&shim.request(bed.rootfs("pod"))).unwrap();
    shim.rpc().start().unwrap();
    let garbage = bed.dir().join("garbage");
    fs::write(&garbage, vec![7; 1 << 20]).unwrap();
    let empty = bed.dir().join("empty");
    fs::write(&empty, "").unwrap();
    let none = bed.dir().join("none");
    let lower = || rootfs_mount("erofs", &garbage, &["ro", "loop"]);
    let on = |kind: &str, options: &[&str]| rootfs_mount(kind, Path::new("{{ mount 5 }}"), options);
    let cases = [
        (vec![rootfs_mount("erofs", &none, &["loop"])], Code::NOT_FOUND, "No such file"),
        (vec![rootfs_mount("erofs", bed.dir(), &["loop"])], Code::INVALID_ARGUMENT, "neither a"),
        (vec![rootfs_mount("erofs", &empty, &["loop"])], Code::INVALID_ARGUMENT, "has 0 bytes"),
        (vec![lower()], Code::UNKNOWN, "cannot mount erofs"),
        (looped(&garbage), Code::UNKNOWN, "cannot mount ext4"),
        (vec![lower(), on("format/bind", &[])], Code::INVALID_ARGUMENT, "is not before it"),
        (vec![lower(), on("mkfs/ext4", &[])], Code::INVALID_ARGUMENT, "containerd's to do"),
    ];
    for (number, (mounts, expected, words)) in cases.into_iter().enumerate() {
        let name = bed.id(&format!("case-{number}"));
        let refused = shim.member_on(bed, &name, shell("true"), mounts);
        let error = refused.err().unwrap_or_else(|| panic!("case {number} was created"));
        assert_eq!(code(&error), Some(expected), "case {number}: {error}");
        assert!(error.to_string().contains(words), "case {number}: {error}");
    }
    let (rpc, out) = shim
        .member_on(bed, &bed.id("good"), shell("echo text"), looped(&ext4_image(bed, "good")))
        .unwrap();
    rpc.start().unwrap();
    assert_eq!(rpc.wait().unwrap().exit_status, 0);
    rpc.delete().unwrap();
    assert_eq!(fs::read_to_string(out).unwrap(), "text\n");
    shim.rpc().kill(9, true).unwrap();
    shim.rpc().wait().unwrap();
    shim.rpc().delete().unwrap();
    shim.shutdown();
}
