//! The image of the `Dockerfile`, which copies an installation to a host.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use sandbox_tests::{Process, exec, paths};

use crate::client::{Client, IMAGE, Kind};

/// The base image, of which the image uses `cp`.
const BASE: &str = "debian:bookworm-slim";

pub fn installer_image(c: &Client) {
    if c.lacks(Kind::Nerdctl, "nerdctl build needs a BuildKit daemon; Docker's has it built in") {
        return;
    }
    let dir = c.bed.dir();
    let (stage, usr) = (dir.join("stage"), dir.join("usr"));
    make_stage(&stage);
    make_base(c);
    let (file, tree) = (paths::tree().join("Dockerfile"), stage.display().to_string());
    let file = file.display().to_string();
    c.call(&["build", "-t", "sandbox", "--build-arg", "FILES=tree", "-f", &file, &tree]).ok();

    let volume = format!("{}:/host/usr", usr.display());
    let install = || c.call(&["run", "--rm", "-v", &volume, "sandbox"]).ok();
    fs::create_dir(&usr).unwrap();
    install();
    let (bin, lib) = (usr.join("bin"), usr.join("lib/sandbox"));
    let shim = bin.join("containerd-shim-sandbox-v1");
    exec(Command::new(bin.join("sandboxctl")).arg("--version"), &[]).ok();
    let mut lines = String::new();
    for (key, name) in
        [("vmm", "sandbox-vmm"), ("kernel", "vmlinux"), ("initramfs", "initramfs.cpio")]
    {
        lines.push_str(&format!("{key} = {:?}\n", lib.join(name)));
    }
    c.bed.configure(&lines);
    let (id, runtime) = (c.bed.id("installed"), shim.display().to_string());
    c.bed.ctr(&["run", "-d", "--runtime", &runtime, IMAGE, &id, "sleep", "1000"]).ok();
    let running = programs();
    for file in [&shim, &lib.join("sandbox-vmm")] {
        assert!(running.contains(&file.display().to_string()), "{file:?} is not in {running:?}");
    }

    // An upgrade replaces the programs of a running container, which goes on.
    let inode = || fs::metadata(&shim).unwrap().ino();
    let before = inode();
    install();
    assert_ne!(inode(), before);
    let out = c.bed.ctr(&["task", "exec", "--exec-id", "after", &id, "echo", "upgraded"]).ok();
    assert_eq!(out.text(), "upgraded");
    c.bed.remove(&id);
}

/// Makes the base image of this machine's `cp`, since tests reach no registry.
/// The `cp` of busybox ignores `--remove-destination`.
fn make_base(c: &Client) {
    let (root, archive) = (c.bed.dir().join("base"), c.bed.dir().join("base.tar"));
    fs::create_dir(&root).unwrap();
    let libraries = exec(Command::new("ldd").arg("/bin/cp"), &[]).ok().text();
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    let files = libraries.chain(["/bin/cp"]);
    exec(Command::new("cp").args(["-L", "--parents"]).args(files).arg(&root), &[]).ok();
    exec(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."), &[]).ok();
    c.call(&["import", archive.to_str().unwrap(), BASE]).ok();
}

/// Installs the programs and the guest image under test to a directory.
fn make_stage(stage: &Path) {
    let pages = stage.with_extension("pages");
    fs::create_dir(&pages).unwrap();
    let variables = [("DESTDIR", stage), ("BIN", &paths::binaries()), ("GUEST", &paths::guest())];
    let mut make = Command::new("make");
    make.arg("-C").arg(paths::tree()).args(["-o", "build", "-o", "guest", "-o", "pages"]);
    for (name, path) in variables.iter().chain(&[("PAGES", pages.as_path())]) {
        make.arg(format!("{name}={}", path.display()));
    }
    exec(make.args(["PREFIX=/usr", "install"]).env_remove("MAKEFLAGS"), &[]).ok();
}

/// The paths of the programs that run below this process.
fn programs() -> Vec<String> {
    let below = Process::below(i32::try_from(std::process::id()).unwrap());
    let exe = |process: &Process| fs::read_link(process.path("exe")).ok();
    below.iter().filter_map(exe).map(|path| path.display().to_string()).collect()
}
