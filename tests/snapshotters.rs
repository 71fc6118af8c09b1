//! Containers on each snapshotter of the newest containerd, which
//! `tests/conformance/go.mod` names.
//!
//! `make test-snapshotters TESTS=erofs` runs some of them. What this machine's
//! kernel lacks is left out, with the reason: device-mapper, mostly. With
//! `SANDBOX_TEST_ENGINE=kvm` and no usable KVM the tests run in the lab, whose
//! kernel has device-mapper; there those that depend on the engine: erofs and
//! devmapper.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;

use sandbox_tests::{Bed, exec, is_ours, lab, tests};

tests![
    Any overlayfs,
    Any native,
    Any blockfile,
    Any erofs,
    Any erofs_block,
    Any devmapper,
];

/// Name of the device-mapper pool, one for the whole machine.
const POOL: &str = "sandbox-test-pool";

fn main() -> ExitCode {
    sandbox_tests::find_programs(&[&["tests/conformance/build"]]);
    lab::enter_without_kvm(&["erofs", "devmapper"]);
    sandbox_tests::main(&[TESTS])
}

fn run(program: &str, words: &[&str]) -> String {
    exec(Command::new(program).args(words), &[]).ok().text()
}

/// What this machine lacks of a kernel with these file systems.
fn lacks(file_system: &str) -> Option<String> {
    for module in ["loop", file_system] {
        exec(Command::new("modprobe").arg(module), &[]);
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    let is_known = known.split_whitespace().any(|word| word == file_system);
    (!is_known).then(|| format!("this machine's kernel has no {file_system}"))
}

/// As [`lacks`], of thin pools.
fn lacks_pools() -> Option<String> {
    exec(Command::new("modprobe").arg("dm_thin_pool"), &[]);
    let Ok(out) = Command::new("dmsetup").arg("targets").output() else {
        return Some("dmsetup is not installed".to_owned());
    };
    let has_pools = String::from_utf8_lossy(&out.stdout).contains("thin-pool");
    (!has_pools).then(|| "this machine's kernel has no thin pools of device-mapper".to_owned())
}

/// Runs the cases on a snapshotter, unless this machine lacks something.
fn on(bed: &Bed, snapshotter: &str, root: &str, tables: &str, lack: Option<String>) {
    if let Some(reason) = lack {
        println!("left out: {reason}");
        return;
    }
    bed.configure_containerd(tables);
    let image = bed.image_file();
    let import = ["image", "import", "--local", "--snapshotter", snapshotter];
    bed.ctr(&[&import[..], &[image.to_str().unwrap()]].concat()).ok();
    the_root_is_of_type(bed, snapshotter, root);
    what_is_written_stays(bed, snapshotter);
    three_at_once(bed, snapshotter);
    assert_eq!(loops(bed.dir()), [""; 0], "loop devices that {snapshotter} leaves");
}

fn the_root_is_of_type(bed: &Bed, snapshotter: &str, root: &str) {
    let line = "awk '$2 == \"/\" { print $3 }' /proc/mounts; ls /bin/sh; rm /bin/vi; \
                ls /bin/vi 2>&1 | wc -l";
    let out = bed.run("root").flags(&["--snapshotter", snapshotter]).shell(line).ok().text();
    let lines: Vec<&str> = out.lines().collect();
    if is_ours() {
        assert_eq!(lines[0], root, "the type of the root on {snapshotter}");
    }
    assert_eq!(lines[1..], ["/bin/sh", "1"], "the image on {snapshotter}");
}

fn what_is_written_stays(bed: &Bed, snapshotter: &str) {
    let run = bed.run("kept").flags(&["--snapshotter", snapshotter]);
    let id = bed.id("kept");
    let line = ["sh", "-c", "echo text >>/made; cat /made"];
    assert_eq!(run.kept(&line).ok().text(), "text", "the first task on {snapshotter}");
    let second = bed.ctr(&["task", "start", &id]).ok().text();
    assert_eq!(second, "text\ntext", "the second task on {snapshotter}");
    bed.ctr(&["container", "rm", &id]).ok();
}

fn three_at_once(bed: &Bed, snapshotter: &str) {
    thread::scope(|scope| {
        for number in ["1", "2", "3"] {
            scope.spawn(move || {
                let line = format!(
                    "test ! -e /made && dd if=/dev/urandom of=/made bs=1M count=8 2>/dev/null && \
                     echo {number} >/etc/mark && sync && cat /etc/mark"
                );
                let run = bed.run(number).flags(&["--snapshotter", snapshotter]);
                assert_eq!(run.shell(&line).ok().text(), number, "one of three on {snapshotter}");
            });
        }
    });
}

/// Files below `dir` that loop devices hold, but for those of the pool.
fn loops(dir: &Path) -> Vec<String> {
    let dir = dir.display().to_string();
    let table = run("losetup", &["--list", "--noheadings", "--output", "BACK-FILE"]);
    let ours = table.lines().filter(|file| file.starts_with(&dir) && !file.contains("/pool."));
    ours.map(str::to_owned).collect()
}

fn overlayfs(bed: &Bed) {
    on(bed, "overlayfs", "virtiofs", "", lacks("overlay"));
}

fn native(bed: &Bed) {
    on(bed, "native", "virtiofs", "", None);
}

fn blockfile(bed: &Bed) {
    let (scratch, dir) = (bed.dir().join("scratch"), bed.dir().join("blockfile"));
    run("truncate", &["-s", "256M", scratch.to_str().unwrap()]);
    run("mkfs.ext4", &["-q", "-F", scratch.to_str().unwrap()]);
    let tables = format!(
        "[plugins.\"io.containerd.snapshotter.v1.blockfile\"]\n\
         scratch_file = {scratch:?}\nroot_path = {dir:?}\nfs_type = \"ext4\"\n\
         mount_options = []\nrecreate_scratch = true\n"
    );
    on(bed, "blockfile", "ext4", &tables, lacks("ext4"));
}

fn erofs(bed: &Bed) {
    on(bed, "erofs", "overlay", "", lacks("erofs"));
}

/// The writable layer is in an image, too.
fn erofs_block(bed: &Bed) {
    let tables = "[plugins.\"io.containerd.snapshotter.v1.erofs\"]\ndefault_size = \"128MiB\"\n";
    on(bed, "erofs", "overlay", tables, lacks("erofs"));
}

fn devmapper(bed: &Bed) {
    let lack = lacks("ext4").or_else(lacks_pools);
    if lack.is_some() {
        return on(bed, "devmapper", "ext4", "", lack);
    }
    let _pool = Pool::new(bed.dir());
    let dir = bed.dir().join("devmapper");
    let tables = format!(
        "[plugins.\"io.containerd.snapshotter.v1.devmapper\"]\n\
         pool_name = \"{POOL}\"\nroot_path = {dir:?}\nbase_image_size = \"256MB\"\n\
         fs_type = \"ext4\"\ndiscard_blocks = true\n"
    );
    on(bed, "devmapper", "ext4", &tables, None);
    bed.kill_containerd();
}

/// A thin pool on two loop devices.
struct Pool {
    devices: [String; 2],
}

impl Pool {
    fn new(dir: &Path) -> Self {
        let devices = [("pool.data", "2G"), ("pool.meta", "64M")].map(|(name, size)| {
            let file: PathBuf = dir.join(name);
            run("truncate", &["-s", size, file.to_str().unwrap()]);
            run("losetup", &["--find", "--show", file.to_str().unwrap()])
        });
        let pool = Self { devices };
        let [data, meta] = &pool.devices;
        // Blocks of 64 KiB; 2 GiB in sectors.
        let table = format!("0 4194304 thin-pool {meta} {data} 128 32768 1 skip_block_zeroing");
        run("dmsetup", &["create", POOL, "--table", &table]);
        pool
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Thin devices first: the snapshotter leaves them active.
        let prefix = format!("{POOL}-");
        let listed = exec(Command::new("dmsetup").arg("ls"), &[]).text();
        let names = listed.lines().filter_map(|line| line.split_whitespace().next());
        for name in names.filter(|name| name.starts_with(&prefix)).chain([POOL]) {
            exec(Command::new("dmsetup").args(["remove", name]), &[]);
        }
        for device in &self.devices {
            exec(Command::new("losetup").args(["--detach", device]), &[]);
        }
    }
}
