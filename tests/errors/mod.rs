//! Errors that say what to do, and leave nothing behind: the bed's check runs
//! after each.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sandbox_tests::{Bed, has_kvm, initramfs, patience, spec, tests};
use serde_json::json;

tests![
    Ours a_missing_kernel_and_initramfs_are_named,
    Ours a_kernel_that_is_none_is_named,
    Ours an_unknown_key_is_named,
    Ours a_wrong_value_is_named,
    Ours no_engine_says_what_was_tried,
    Ours a_failed_boot_shows_the_console,
    Ours a_silent_agent_is_given_up_in_time,
    Ours more_memory_than_the_host_has,
    Ours a_size_that_cannot_be,
    Ours a_missing_vmm_and_a_full_disk,
    Any a_missing_mount_source_is_named,
];

/// Runs `true` and gives the error that `ctr` shows.
fn refused(bed: &Bed, name: &str, parts: &[&str]) {
    bed.run(name).foreground(&["true"]).fails_with(parts);
    bed.assert_clean();
}

/// R24: the first stage of all.
fn a_missing_kernel_and_initramfs_are_named(bed: &Bed) {
    bed.configure("kernel = \"/nowhere/vmlinux\"\n");
    refused(bed, "a", &["/nowhere/vmlinux", "kernel"]);
    bed.configure("initramfs = \"/nowhere/initramfs.cpio\"\n");
    refused(bed, "b", &["/nowhere/initramfs.cpio", "initramfs"]);
}

fn a_kernel_that_is_none_is_named(bed: &Bed) {
    let file = bed.dir().join("not-a-kernel");
    fs::write(&file, vec![b'x'; 100_000]).unwrap();
    bed.configure(&format!("kernel = {file:?}\n"));
    refused(bed, "a", &["kernel"]);
}

fn an_unknown_key_is_named(bed: &Bed) {
    bed.configure("colour = \"red\"\n");
    refused(bed, "a", &["colour", "sandbox.toml"]);
    bed.configure("[vm]\ncpus = 3\n");
    refused(bed, "b", &["cpus", "sandbox.toml"]);
}

fn a_wrong_value_is_named(bed: &Bed) {
    bed.configure("engine = \"xen\"\n");
    refused(bed, "a", &["xen"]);
    bed.configure("[vm]\nvcpus = 99\n");
    refused(bed, "b", &["99"]);
    bed.configure("state_dir = \"relative\"\n");
    refused(bed, "c", &["state_dir", "absolute"]);
}

/// Which engines were tried, why each is none, and the package that helps.
fn no_engine_says_what_was_tried(bed: &Bed) {
    bed.configure("engine = \"qemu\"\nqemu = \"/nowhere/qemu-system-x86_64\"\n");
    refused(bed, "a", &["/nowhere/qemu-system-x86_64", "qemu-system-x86"]);
    if !has_kvm() {
        bed.configure("engine = \"auto\"\nqemu = \"/nowhere/qemu-system-x86_64\"\n");
        refused(
            bed,
            "b",
            &["kvm", "/nowhere/qemu-system-x86_64", "apt-get install qemu-system-x86"],
        );
        bed.configure("engine = \"kvm\"\n");
        refused(bed, "c", &["kvm"]);
    }
}

/// R24: the guest's kernel finds no init, says so, and ends.
fn a_failed_boot_shows_the_console(bed: &Bed) {
    let file = bed.dir().join("empty.cpio");
    fs::write(&file, initramfs(&[])).unwrap();
    bed.configure(&format!("initramfs = {file:?}\n"));
    let since = Instant::now();
    refused(bed, "a", &["Kernel panic", "console"]);
    assert!(since.elapsed() < patience(Duration::from_secs(20)), "{:?}", since.elapsed());
}

/// R24: an init that runs and never answers.
fn a_silent_agent_is_given_up_in_time(bed: &Bed) {
    let busybox = fs::read("/bin/busybox").or_else(|_| fs::read("/usr/bin/busybox")).unwrap();
    let script =
        b"#!/bin/sh\necho the init of this test is up >/dev/console\nexec /bin/sleep 1000\n";
    let file = bed.dir().join("silent.cpio");
    let archive =
        initramfs(&[("bin/sh", &busybox), ("bin/sleep", &busybox), ("init", script.as_slice())]);
    fs::write(&file, archive).unwrap();
    let seconds = patience(Duration::from_secs(6)).as_secs();
    bed.configure(&format!("initramfs = {file:?}\nboot_timeout_seconds = {seconds}\n"));
    let since = Instant::now();
    refused(bed, "a", &["the init of this test is up", &seconds.to_string()]);
    let took = since.elapsed();
    assert!(took < patience(Duration::from_secs(14)), "given up after {took:?}");
}

fn more_memory_than_the_host_has(bed: &Bed) {
    let flag = "--annotation=io.sandbox.memory_mib=1000000";
    bed.run("a").flags(&[flag]).foreground(&["true"]).fails_with(&["memory", "1000000"]);
}

/// Sizes that no sandbox has, and annotations that are no number.
fn a_size_that_cannot_be(bed: &Bed) {
    for (name, value) in [
        ("vcpus", "0"),
        ("vcpus", "17"),
        ("vcpus", "two"),
        ("memory_mib", "1"),
        ("memory_mib", "-5"),
        ("memory_mib", ""),
    ] {
        let flag = format!("--annotation=io.sandbox.{name}={value}");
        let out = bed.run("a").flags(&[flag]).foreground(&["true"]);
        assert_ne!(out.code, 0, "{name}={value:?} is taken");
        let errors = out.errors();
        assert!(
            errors.contains(if value.is_empty() { name } else { value }),
            "{name}={value:?}: {errors}"
        );
        bed.assert_clean();
    }
}

/// R24: no VMM, and a state folder on a disk that is full.
fn a_missing_vmm_and_a_full_disk(bed: &Bed) {
    bed.configure("vmm = \"/nowhere/sandbox-vmm\"\n");
    refused(bed, "a", &["/nowhere/sandbox-vmm"]);
    let full = full_disk(bed);
    bed.configure(&format!("state_dir = {:?}\n", full.0.join("state")));
    bed.run("b").foreground(&["true"]).fails_with(&["No space left"]);
    drop(full);
}

/// A tmpfs with no room in it; unmounted at the end.
struct FullDisk(PathBuf);

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn full_disk(bed: &Bed) -> FullDisk {
    let dir = bed.dir().join("full");
    fs::create_dir(&dir).unwrap();
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &dir, Some("tmpfs"), flags, Some("size=4k")).unwrap();
    let disk = FullDisk(dir);
    fs::write(disk.0.join("filler"), [0; 4096]).unwrap();
    disk
}

/// R24: whatever the words are around it.
fn a_missing_mount_source_is_named(bed: &Bed) {
    let mut spec = spec(&["true"]);
    let bind = json!({ "destination": "/mnt", "type": "bind", "source": "/nowhere/source", "options": ["rbind"] });
    spec["mounts"].as_array_mut().unwrap().push(bind);
    bed.run_spec("a", spec, &[]).fails_with(&["/nowhere/source"]);
}
