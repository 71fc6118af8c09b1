//! A pod from create to shutdown, with a real virtual machine.
//!
//! Needs root, QEMU, busybox-static, `SANDBOX_TEST_VMM` (the `sandbox-vmm`
//! binary) and `SANDBOX_TEST_GUEST` (a directory with `vmlinux` and
//! `initramfs.cpio`): `cargo test -p sandbox-runtime --test pod -- --ignored`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "pod/network.rs"]
mod network;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use sandbox_runtime::{
    Config, CreateContainer, EngineChoice, ErrorKind, Events, NetworkNamespace, Pod, PodEvent,
    PodId, PodSpec, ProcessRef, State, Status, Stdio, list,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// Longer than anything here takes on a loaded machine without KVM.
const LIMIT: Duration = Duration::from_secs(120);

struct Host {
    dir: TempDir,
    config: Config,
}

impl Host {
    fn new() -> Self {
        let _ = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(std::io::stderr)
            .try_init();
        let variable = |name| PathBuf::from(std::env::var_os(name).expect(name));
        let guest = variable("SANDBOX_TEST_GUEST");
        let dir = tempfile::Builder::new().prefix("sb").tempdir_in("/run").unwrap();
        let config = Config {
            engine: EngineChoice::Qemu,
            kernel: guest.join("vmlinux"),
            initramfs: guest.join("initramfs.cpio"),
            vmm: variable("SANDBOX_TEST_VMM"),
            state_dir: dir.path().join("state"),
            ..Config::default()
        };
        Self { dir, config }
    }

    /// The parent of this test's cgroups; others run beside it.
    fn cgroup(&self) -> String {
        format!("sandbox-test-{}", self.dir.path().file_name().unwrap().display())
    }

    /// A bundle with a busybox in it.
    fn bundle(&self, id: &str, args: &[&str], over: &Value) -> PathBuf {
        let bundle = self.dir.path().join(id);
        let bin = bundle.join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        for dir in ["proc", "dev", "sys", "tmp"] {
            fs::create_dir(bundle.join("rootfs").join(dir)).unwrap();
        }
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        fs::set_permissions(bin.join("busybox"), fs::Permissions::from_mode(0o755)).unwrap();
        for name in [
            "sh", "cat", "echo", "true", "sleep", "dd", "uname", "ls", "id", "kill", "ip", "nc",
            "wget", "nslookup", "httpd",
        ] {
            symlink("busybox", bin.join(name)).unwrap();
        }
        let mut spec = json!({
            "ociVersion": "1.1.0",
            "process": {
                "cwd": "/", "args": args, "env": ["PATH=/bin"],
                "user": {"uid": 0, "gid": 0},
            },
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "mode=755"]},
            ],
            "linux": {
                "cgroupsPath": format!("/{}/{id}", self.cgroup()),
                "namespaces": [
                    {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                    {"type": "network"},
                ],
            },
        });
        for (key, value) in over.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        bundle
    }

    fn container(&self, id: &str, args: &[&str]) -> CreateContainer {
        self.container_with(id, args, &json!({}))
    }

    fn container_with(&self, id: &str, args: &[&str], over: &Value) -> CreateContainer {
        let bundle = self.bundle(id, args, over);
        let fifo = |name: &str| {
            let path = self.dir.path().join(format!("{id}.{name}"));
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
            path.to_str().unwrap().to_owned()
        };
        CreateContainer {
            id: id.into(),
            bundle,
            stdio: Stdio {
                stdin: fifo("in"),
                stdout: fifo("out"),
                stderr: fifo("err"),
                terminal: false,
            },
            ..CreateContainer::default()
        }
    }

    async fn pod(&self, first: &CreateContainer) -> (Pod, Events) {
        let id = PodId::new("test", &first.id).unwrap();
        let spec = PodSpec::from_bundle(&first.bundle).unwrap();
        Pod::create(self.config.clone(), id, spec).await.unwrap()
    }

    fn states(&self) -> Vec<State> {
        list(&self.config).unwrap()
    }

    /// Nothing of any pod is left.
    fn assert_clean(&self) {
        let left: Vec<PathBuf> = fs::read_dir(&self.config.state_dir)
            .map(|dir| dir.map(|entry| entry.unwrap().path()).collect())
            .unwrap_or_default();
        let left: Vec<_> = left.iter().filter(|p| p.is_dir()).collect();
        assert!(left.is_empty(), "{left:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.path().to_str().unwrap()), "{mounts}");
        let name = self.cgroup();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
            assert!(!hierarchy.unwrap().path().join(&name).exists());
        }
    }
}

fn reader(path: &str) -> JoinHandle<Vec<u8>> {
    let path = path.to_owned();
    spawn_blocking(move || fs::read(path).unwrap())
}

async fn exit_event(events: &mut Events) -> (String, u32) {
    match timeout(LIMIT, events.recv()).await.unwrap().unwrap() {
        PodEvent::Exit { process, exit, .. } => (process.container, exit.status),
        other => panic!("{other:?}"),
    }
}

fn init(container: &str) -> ProcessRef {
    ProcessRef::init(container)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots a virtual machine"]
async fn a_container_from_create_to_nothing_left() {
    let host = Host::new();
    let script = "echo out; echo err >&2; cat; exit 7";
    let create = host.container("one", &["/bin/sh", "-c", script]);
    let began = Instant::now();
    let (pod, mut events) = host.pod(&create).await;
    assert_eq!(pod.create_container(create.clone()).await.unwrap(), pod.pid());
    println!("created after {} ms", began.elapsed().as_millis());
    let state = pod.state(&init("one")).await.unwrap();
    assert_eq!(state.status, Status::Created);
    let [listed] = <[State; 1]>::try_from(host.states()).unwrap();
    assert!(listed.is_running());
    assert_eq!(listed.processes.len(), 4);
    let again = pod.create_container(create.clone()).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);

    let (out, err) = (reader(&create.stdio.stdout), reader(&create.stdio.stderr));
    pod.start(&init("one")).await.unwrap();
    println!("started after {} ms", began.elapsed().as_millis());
    assert_eq!(pod.start(&init("one")).await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    assert_eq!(pod.delete(&init("one")).await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    assert!(!pod.pids("one").await.unwrap().is_empty());

    // 20 MiB in, the same out.
    let data: Vec<u8> = (0..20 * 1024 * 1024u32).map(|n| (n % 253) as u8).collect();
    let (stdin, sent) = (create.stdio.stdin.clone(), data.clone());
    spawn_blocking(move || fs::write(stdin, sent).unwrap()).await.unwrap();
    pod.close_stdin(&init("one")).await.unwrap();
    assert_eq!(exit_event(&mut events).await, ("one".to_owned(), 7));
    assert_eq!(pod.wait(&init("one")).await.unwrap().status, 7);
    assert_eq!(pod.kill(&init("one"), 9, false).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(pod.delete(&init("one")).await.unwrap().status, 7);
    assert_eq!(pod.delete(&init("one")).await.unwrap_err().kind(), ErrorKind::NotFound);
    let out = out.await.unwrap();
    assert!(out.starts_with(b"out\n"));
    assert!(out[4..] == data);
    assert_eq!(err.await.unwrap(), b"err\n");
    pod.shutdown().await;
    pod.shutdown().await;
    println!("all gone after {} ms", began.elapsed().as_millis());
    host.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots a virtual machine"]
async fn containers_of_one_pod_see_what_they_are_given() {
    let host = Host::new();
    let volume = host.dir.path().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("in"), "from the host").unwrap();
    let mounts = json!({"mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/rw", "type": "bind", "source": volume, "options": ["rbind", "rw"]},
        {"destination": "/ro", "type": "bind", "source": volume, "options": ["rbind", "ro"]},
        {"destination": "/file", "type": "bind", "source": volume.join("in"), "options": ["bind"]},
    ]});
    let script = "cat /rw/in /ro/in /file; echo x >/ro/x; echo out >/rw/out";
    let first = host.container_with("first", &["/bin/sh", "-c", script], &mounts);
    let burst = "dd if=/dev/zero bs=1024 count=8192 2>/dev/null; exit 3";
    let dev = json!({"mounts": [
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
    ]});
    let second = host.container_with("second", &["/bin/sh", "-c", burst], &dev);
    let third = host.container("third", &["/bin/sleep", "1000"]);
    let missing = host.container("missing", &["nope"]);

    let (pod, mut events) = host.pod(&first).await;
    let error = pod.create_container(missing).await.unwrap_err().report();
    println!("{error}");
    assert!(error.contains("nope"), "{error}");
    assert!(error.contains("executable file not found in $PATH"), "{error}");

    pod.create_container(first.clone()).await.unwrap();
    let (out, err) = (reader(&first.stdio.stdout), reader(&first.stdio.stderr));
    pod.start(&init("first")).await.unwrap();
    assert_eq!(exit_event(&mut events).await, ("first".to_owned(), 0));
    pod.delete(&init("first")).await.unwrap();
    assert_eq!(out.await.unwrap(), b"from the host".repeat(3));
    let err = String::from_utf8(err.await.unwrap()).unwrap();
    assert!(err.contains("Read-only file system"), "{err}");
    assert_eq!(fs::read_to_string(volume.join("out")).unwrap(), "out\n");

    // All of a burst is there when delete follows wait at once.
    pod.create_container(second.clone()).await.unwrap();
    let out = reader(&second.stdio.stdout);
    pod.start(&init("second")).await.unwrap();
    assert_eq!(pod.wait(&init("second")).await.unwrap().status, 3);
    assert_eq!(pod.delete(&init("second")).await.unwrap().status, 3);
    assert_eq!(out.await.unwrap().len(), 8 * 1024 * 1024);
    assert_eq!(exit_event(&mut events).await, ("second".to_owned(), 3));

    // Never started.
    pod.create_container(third.clone()).await.unwrap();
    pod.delete(&init("third")).await.unwrap();
    for (signal, status) in [(15, 143), (9, 137)] {
        pod.create_container(third.clone()).await.unwrap();
        pod.start(&init("third")).await.unwrap();
        pod.kill(&init("third"), signal, false).await.unwrap();
        // The first process of a pid namespace ignores what it does not handle.
        if signal == 15 {
            pod.kill(&init("third"), 9, true).await.unwrap();
        }
        let found = pod.wait(&init("third")).await.unwrap().status;
        assert!(found == status || found == 137, "{found}");
        assert_eq!(pod.delete(&init("third")).await.unwrap().status, found);
    }
    assert!(pod.containers().is_empty());
    assert!(fs::read_dir(&volume).unwrap().count() == 2);
    drop(pod);
    // The last handle was it: its drop removed everything.
    host.assert_clean();
    assert!(volume.join("in").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots virtual machines"]
async fn the_death_of_any_process_is_the_pods() {
    let host = Host::new();
    for role in ["qemu", "io", "fs"] {
        let create = host.container(&format!("dies-{role}"), &["/bin/sleep", "1000"]);
        let (pod, mut events) = host.pod(&create).await;
        pod.create_container(create.clone()).await.unwrap();
        pod.start(&init(&create.id)).await.unwrap();
        let [state] = <[State; 1]>::try_from(host.states()).unwrap();
        let member = state.processes.iter().find(|member| member.role == role).unwrap();
        let pid = nix::unistd::Pid::from_raw(member.process.pid.try_into().unwrap());
        let began = Instant::now();
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        assert_eq!(exit_event(&mut events).await, (create.id.clone(), 137));
        assert!(began.elapsed() < Duration::from_secs(5));
        let reason = pod.ended().await;
        println!("{role}: {reason}, after {} ms", began.elapsed().as_millis());
        assert!(reason.contains(role) && reason.contains("signal 9"), "{reason}");
        let kind = pod.kill(&init(&create.id), 9, false).await.unwrap_err().kind();
        assert_eq!(kind, ErrorKind::NotFound);
        assert_eq!(pod.delete(&init(&create.id)).await.unwrap().status, 137);
        pod.shutdown().await;
        assert!(state.processes.iter().skip(1).all(|member| !member.process.is_alive()));
        host.assert_clean();
    }
}

/// An archive of `/init` alone (cpio(5), "New ASCII Format").
fn initramfs(init: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, mode, content) in [("init", 0o100_755, init), ("TRAILER!!!", 0, &[])] {
        let mut fields = [0; 13];
        (fields[1], fields[4]) = (mode, 1);
        (fields[6], fields[11]) = (content.len(), name.len() + 1);
        archive.extend_from_slice(b"070701");
        archive.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        for part in [format!("{name}\0").as_bytes(), content] {
            archive.extend_from_slice(part);
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
    }
    archive
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots virtual machines"]
async fn a_boot_that_fails_says_how_far_it_came_and_leaves_nothing() {
    let mut host = Host::new();
    let create = host.container("one", &["/bin/true"]);
    let id = || PodId::new("test", "one").unwrap();
    let spec = PodSpec::from_bundle(&create.bundle).unwrap();
    let good = host.config.clone();

    // Before anything runs.
    for (config, expected) in [
        (Config { kernel: "/nonexistent/vmlinux".into(), ..good.clone() }, "/nonexistent/vmlinux"),
        (Config { initramfs: "/nonexistent/i".into(), ..good.clone() }, "/nonexistent/i"),
        (Config { vmm: "/nonexistent/vmm".into(), ..good.clone() }, "/nonexistent/vmm"),
        (Config { qemu: "/nonexistent/qemu".into(), ..good.clone() }, "qemu-system-x86"),
    ] {
        let error = Pod::create(config, id(), spec.clone()).await.err().unwrap();
        assert!(error.report().contains(expected), "{}", error.report());
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        host.assert_clean();
    }

    // A kernel that is none, one that panics, a guest without an agent.
    let [junk, idle] = ["junk", "idle"].map(|name| host.dir.path().join(name));
    fs::write(&junk, "junk").unwrap();
    fs::write(&idle, initramfs(&fs::read("/bin/busybox").unwrap())).unwrap();
    for (config, expected) in [
        (Config { kernel: junk.clone(), ..good.clone() }, "the guest did not boot"),
        (Config { initramfs: junk, ..good.clone() }, "Kernel panic"),
        (Config { initramfs: idle, boot_timeout_seconds: 3, ..good.clone() }, "within 3 s"),
    ] {
        host.config = config;
        let (pod, _events) = host.pod(&create).await;
        let began = Instant::now();
        let error = pod.create_container(create.clone()).await.unwrap_err().report();
        println!("after {} ms: {error}", began.elapsed().as_millis());
        assert!(error.contains(expected) && error.contains("stage reached: "), "{error}");
        pod.shutdown().await;
        host.assert_clean();
    }
}
