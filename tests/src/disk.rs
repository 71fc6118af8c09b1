//! Images of file systems, as snapshotters of containerd make them.

use std::path::{Path, PathBuf};
use std::process::Command;

fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    // Debian's tools for file systems are not in everyone's PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

fn ok(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes `image` an ext4 of this many MiB that holds what is in `root`.
pub fn ext4(root: &Path, image: &Path, mib: u32) {
    let size = format!("{mib}M");
    ok(tool("mkfs.ext4").args(["-q", "-F", "-d"]).arg(root).arg(image).arg(size));
}

/// Makes `image` an erofs that holds what is in `root`.
pub fn erofs(root: &Path, image: &Path) {
    ok(tool("mkfs.erofs").arg(image).arg(root));
}

/// Marks a folder as one that hides what layers below have in it.
pub fn opaque(folder: &Path) {
    let name = c"trusted.overlay.opaque";
    let path = std::ffi::CString::new(folder.to_str().unwrap()).unwrap();
    rustix::fs::setxattr(path.as_c_str(), name, b"y", rustix::fs::XattrFlags::empty()).unwrap();
}

/// What a file in an ext4 holds, by its own tools: nothing is mounted.
pub fn file_in_ext4(image: &Path, path: &str) -> String {
    ok(tool("debugfs").args(["-R", &format!("cat {path}")]).arg(image))
}

/// Panics unless the ext4 is as an unmount leaves it.
pub fn assert_sound(image: &Path) {
    let features = ok(tool("dumpe2fs").arg("-h").arg(image));
    assert!(!features.contains("needs_recovery"), "not unmounted: {features}");
    ok(tool("e2fsck").args(["-f", "-n"]).arg(image));
}

/// A block device that is a file. Dropped, it is gone.
pub struct LoopDevice(PathBuf);

impl LoopDevice {
    /// Makes one of `image`.
    pub fn of(image: &Path) -> Self {
        Self(ok(tool("losetup").args(["--find", "--show"]).arg(image)).trim().into())
    }

    /// Its node.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        ok(tool("losetup").arg("--detach").arg(&self.0));
    }
}
