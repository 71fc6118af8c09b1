//! Any FUSE requests, one after another, for the file system device.
//!
//! The requests are carried out, so the device works in a thread whose root
//! is a small file system of its own and whose capabilities are those of the
//! `fs` process. That takes root.
#![no_main]

mod input;

use std::fs;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{LazyLock, Mutex};

use input::Input;
use libfuzzer_sys::fuzz_target;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, chroot};
use sandbox_devices::mock::{Driver, Part};
use sandbox_devices::{Device, Fs};

/// Most requests of one input.
const REQUESTS: usize = 16;
const FILES: u64 = 256;
/// The request queue.
const QUEUE: usize = 1;

type Worker = Mutex<(SyncSender<Vec<u8>>, Receiver<()>)>;

static WORKER: LazyLock<Worker> = LazyLock::new(|| {
    let (inputs, take) = sync_channel::<Vec<u8>>(0);
    let (done, outputs) = sync_channel(0);
    std::thread::spawn(move || {
        confine();
        let own_fds = fs::File::open("/fds").unwrap();
        let mut device = Fs::new("share", own_fds.into(), FILES).unwrap();
        device.start(0).unwrap();
        for input in take {
            run(&mut device, &input);
            done.send(()).unwrap();
        }
    });
    Mutex::new((inputs, outputs))
});

/// Gives the thread, and no other, a root of its own.
fn confine() {
    let folder = tempfile::tempdir().unwrap().keep();
    unshare(CloneFlags::CLONE_NEWNS).expect("the fs target needs root");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("none"), &folder, Some("tmpfs"), MsFlags::empty(), Some("size=8m,nr_inodes=1k"))
        .unwrap();
    fs::create_dir(folder.join("fds")).unwrap();
    let fds = folder.join("fds");
    mount(Some("/proc/self/fd"), &fds, none, MsFlags::MS_BIND, none).unwrap();
    chroot(&folder).unwrap();
    chdir("/").unwrap();
    drop_capabilities();
}

fn drop_capabilities() {
    use caps::Capability::*;
    let keep = [
        CAP_CHOWN,
        CAP_DAC_OVERRIDE,
        CAP_FOWNER,
        CAP_FSETID,
        CAP_MKNOD,
        CAP_SETFCAP,
        CAP_SETGID,
        CAP_SETUID,
    ];
    let keep = keep.into_iter().collect();
    caps::set(None, caps::CapSet::Effective, &keep).unwrap();
    caps::set(None, caps::CapSet::Permitted, &keep).unwrap();
}

fn run(device: &mut Fs, bytes: &[u8]) {
    for entry in fs::read_dir("/").into_iter().flatten().flatten() {
        if entry.file_name() != "fds" {
            let _ = fs::remove_dir_all(entry.path());
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::write("/file", b"contents");
    let _ = fs::create_dir("/folder");
    device.reset();
    let mut driver = Driver::new(device);
    let mut input = Input(bytes);
    request(&mut driver, &init(), 4096);
    for _ in 0..REQUESTS {
        if device.kicked(QUEUE, &mut driver.io()).is_err() || input.0.is_empty() {
            break;
        }
        let reply = u32::from(input.half() % 8192);
        let len = usize::from(input.half() % 4096);
        request(&mut driver, input.bytes(len), reply);
    }
    device.reset();
}

fn request(driver: &mut Driver, bytes: &[u8], reply: u32) {
    let (addr, len) = (driver.bytes(bytes), bytes.len() as u32);
    let mut parts = vec![Part { addr, len, write: false }];
    if reply > 0 {
        parts.push(Part { addr: driver.buffer(reply), len: reply, write: true });
    }
    driver.chain(QUEUE, &parts);
}

/// A FUSE_INIT request that offers everything.
fn init() -> Vec<u8> {
    let words: [u32; 14] = [104, 26, 1, 0, 0, 0, 0, 0, 0, 0, 7, 38, 4096, u32::MAX];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    bytes.resize(104, 0);
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    let worker = WORKER.lock().unwrap();
    worker.0.send(bytes.to_vec()).unwrap();
    worker.1.recv().unwrap();
});
