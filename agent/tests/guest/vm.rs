//! A guest on QEMU, driven as the shim drives it.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use command_fds::{CommandFdExt, FdMapping};
use nix::mount::{MsFlags, mount};
use sandbox_agent_protocol::agent::*;
use sandbox_agent_protocol::agent_ttrpc::AgentClient;
use sandbox_agent_protocol::{FORWARD_PORT, PROTOCOL_VERSION, SHARE_DIR, SHARE_TAG, STDIO_PORT};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use ttrpc::asynchronous::Client;
use ttrpc::asynchronous::transport::Socket;
use ttrpc::context::{self, Context};

/// A guest emulated on a loaded machine takes its time.
pub const PATIENCE: Duration = Duration::from_secs(180);

pub struct Vm {
    pub agent: AgentClient,
    pub dir: PathBuf,
    backends: Backends,
}

/// The processes around the guest, QEMU last. They end when their control
/// sockets close.
struct Backends {
    processes: Vec<Child>,
    controls: Vec<net::UnixStream>,
}

impl Backends {
    fn start(dir: &Path, share: &Path, sockets: &Path) -> Self {
        let mut backends = Self { processes: Vec::new(), controls: Vec::new() };
        let listen = |name: &str| OwnedFd::from(net::UnixListener::bind(dir.join(name)).unwrap());
        let host = net::UnixListener::bind(sockets.join("vsock.sock")).unwrap();
        let devices = json!([{"kind": "rng", "socket": 4}, {"kind": "vsock", "socket": 5}]);
        let io = json!({"process": "io", "devices": devices, "listener": 6, "cid": 3,
            "sockets": sockets, "guest_ports": [1024]});
        backends.spawn("io", &io, vec![listen("rng.sock"), listen("vhost.sock"), host.into()]);
        let devices = json!([{"kind": "fs", "socket": 4}]);
        let fs = json!({"process": "fs", "devices": devices, "tag": SHARE_TAG, "share": share,
            "config": false});
        backends.spawn("fs", &fs, vec![listen("fs.sock")]);
        backends
    }

    /// Starts a process of sandbox-vmm, with descriptors from 4 on.
    fn spawn(&mut self, name: &str, launch: &Value, fds: Vec<OwnedFd>) {
        let (ours, theirs) = net::UnixStream::pair().unwrap();
        let fds = std::iter::once(theirs.into()).chain(fds);
        let mappings =
            fds.zip(3..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }).collect();
        let mut command = Command::new(binaries().join("sandbox-vmm"));
        command.arg(name).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        command.fd_mappings(mappings).unwrap();
        self.processes.push(command.spawn().unwrap());
        writeln!(&ours, "{launch}").unwrap();
        self.controls.push(ours);
    }
}

fn named(variable: &str, default: &str) -> PathBuf {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::env::var_os(variable).map_or_else(|| tree.join(default), PathBuf::from)
}

/// Folder of sandbox-vmm.
fn binaries() -> PathBuf {
    named("SANDBOX_TEST_BIN", "target/debug")
}

/// Folder of the guest's kernel and initramfs.
fn guest_image() -> PathBuf {
    named("SANDBOX_TEST_GUEST", "build/guest")
}

fn bind(dir: &Path) {
    let flags = MsFlags::MS_BIND;
    mount(Some(dir), dir, None::<&str>, flags, None::<&str>).unwrap();
    mount(None::<&str>, dir, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
}

pub fn ctx() -> Context {
    context::with_duration(PATIENCE)
}

impl Vm {
    /// Boots without the handshake.
    pub async fn boot(dir: &Path) -> Self {
        let share = dir.join("share");
        let sockets = dir.join("vsock");
        fs::create_dir_all(&share).unwrap();
        fs::create_dir_all(&sockets).unwrap();
        // A mount of its own, as the runtime makes it.
        bind(&share);
        let listener = UnixListener::bind(sockets.join("vsock.sock_1024")).unwrap();
        let mut backends = Backends::start(dir, &share, &sockets);
        let mut qemu = qemu(dir);
        qemu.stdin(Stdio::null()).stderr(File::create(dir.join("qemu.log")).unwrap());
        backends.processes.push(qemu.spawn().unwrap());
        let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
        let Ok(Ok((connection, _))) = accepted else {
            panic!("the guest did not connect; console:\n{}", console(dir));
        };
        let agent = AgentClient::new(Client::new(Socket::new(connection)));
        Self { agent, dir: dir.to_owned(), backends }
    }

    pub async fn handshake(&self) -> HandshakeResponse {
        self.agent.handshake(ctx(), &hello(PROTOCOL_VERSION)).await.unwrap()
    }

    pub fn console(&self) -> String {
        console(&self.dir)
    }

    /// Makes a root file system in the share.
    pub fn rootfs(&self, id: &str) -> PathBuf {
        let root = self.dir.join("share").join(id).join("rootfs");
        for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "home/u"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n";
        fs::write(root.join("etc/passwd"), passwd).unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nu:x:1000:\n").unwrap();
        root
    }

    /// Connects to a stream; `Err` holds the agent's refusal.
    pub async fn fetch(&self, header: &str) -> Result<BufReader<UnixStream>, String> {
        self.dial(STDIO_PORT, header).await
    }

    /// Connects to an address of the guest's loopback; `Err` as above.
    pub async fn forward(&self, target: &str) -> Result<BufReader<UnixStream>, String> {
        self.dial(FORWARD_PORT, target).await
    }

    async fn dial(&self, port: u32, header: &str) -> Result<BufReader<UnixStream>, String> {
        let stream = UnixStream::connect(self.dir.join("vsock/vsock.sock")).await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.get_mut().write_all(format!("CONNECT {port}\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        assert!(line.starts_with("OK "), "vsock: {line:?}");
        stream.get_mut().write_all(format!("{header}\n").as_bytes()).await.unwrap();
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        if line == "OK\n" { Ok(stream) } else { Err(line.trim_end().to_owned()) }
    }

    pub async fn create(&self, id: &str, spec: &Value, stdio: Stdio_) -> ttrpc::Result<u32> {
        let request = CreateContainerRequest {
            container_id: id.to_owned(),
            spec: serde_json::to_vec(spec).unwrap(),
            stdio: Some(stdio).into(),
            ..Default::default()
        };
        self.agent.create_container(ctx(), &request).await.map(|answer| answer.pid)
    }

    pub async fn start(&self, id: &str) -> ttrpc::Result<u32> {
        self.agent.start_container(ctx(), &container(id)).await.map(|answer| answer.pid)
    }

    pub async fn wait(&self, id: &str) -> WaitResponse {
        let request = ProcessRequest { container_id: id.to_owned(), ..Default::default() };
        self.agent.wait(ctx(), &request).await.unwrap()
    }

    pub async fn kill(&self, id: &str, signal: u32, all: bool) -> ttrpc::Result<Empty> {
        let request =
            KillRequest { container_id: id.to_owned(), signal, all, ..Default::default() };
        self.agent.kill(ctx(), &request).await
    }

    pub async fn delete(&self, id: &str) -> ttrpc::Result<Empty> {
        self.agent.delete_container(ctx(), &container(id)).await
    }

    pub async fn state(&self, id: &str) -> ttrpc::Result<StateResponse> {
        self.agent.state(ctx(), &container(id)).await
    }

    pub async fn pids(&self, id: &str) -> Vec<u32> {
        self.agent.pids(ctx(), &container(id)).await.unwrap().pids
    }

    /// Runs a container to its end.
    pub async fn run(&self, id: &str, spec: &Value) -> Outcome {
        self.run_with(id, spec, b"").await
    }

    /// Runs a container to its end with this stdin.
    pub async fn run_with(&self, id: &str, spec: &Value, input: &[u8]) -> Outcome {
        self.create(id, spec, stdio(true, true, true)).await.unwrap();
        let mut stdin = self.fetch(&format!("{id} - stdin")).await.unwrap();
        let mut stdout = self.fetch(&format!("{id} - stdout")).await.unwrap();
        let mut stderr = self.fetch(&format!("{id} - stderr")).await.unwrap();
        self.start(id).await.unwrap();
        let feed = async {
            // A program may end without reading it all.
            let _ = stdin.get_mut().write_all(input).await;
            let _ = stdin.get_mut().shutdown().await;
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (_, out_read, err_read, exit) = tokio::join!(
            feed,
            stdout.read_to_end(&mut out),
            stderr.read_to_end(&mut err),
            self.wait(id)
        );
        out_read.unwrap();
        err_read.unwrap();
        self.delete(id).await.unwrap();
        Outcome { status: exit.exit_status, oom: exit.oom_killed, out, err }
    }

    /// Ends the guest from outside.
    pub fn kill_all(&mut self) {
        self.backends.controls.clear();
        for child in &mut self.backends.processes {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits for QEMU to end by itself.
    pub async fn ended(&mut self) -> bool {
        let qemu = self.backends.processes.last_mut().unwrap();
        for _ in 0..PATIENCE.as_millis() / 10 {
            if qemu.try_wait().unwrap().is_some() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.kill_all();
    }
}

pub use sandbox_agent_protocol::agent::Stdio as Stdio_;

pub struct Outcome {
    pub status: u32,
    pub oom: bool,
    pub out: Vec<u8>,
    pub err: Vec<u8>,
}

impl Outcome {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).trim_end().to_owned()
    }

    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.err).trim_end().to_owned()
    }
}

const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "sleep", "ls", "id", "pwd", "env", "hostname", "mount", "stty", "stat",
    "touch", "mkdir", "tail", "head", "dd", "wc", "seq", "kill", "true", "false", "ps", "grep",
    "uname", "date", "test", "tr", "readlink", "mknod", "chmod", "printf", "rm", "ln", "nproc",
    "awk", "sync", "umount", "dmesg", "ip", "sysctl", "ulimit", "trap", "tty", "md5sum", "yes",
];

fn qemu(dir: &Path) -> Command {
    let image = guest_image();
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-M", "microvm,x-option-roms=off,rtc=on,acpi=off,memory-backend=mem"])
        .args(["-object", "memory-backend-memfd,id=mem,size=512M,share=on", "-m", "512"])
        .args(["-global", "virtio-mmio.force-legacy=false"])
        .args(["-accel", "tcg", "-cpu", "max", "-nodefaults", "-no-user-config"])
        .args(["-display", "none", "-no-reboot"])
        // A network device on a hub of its own: what it sends, nobody hears.
        .args(["-netdev", "hubport,id=net,hubid=0", "-device", "virtio-net-device,netdev=net"])
        .args(["-append", "console=ttyS0 panic=-1 reboot=t quiet"])
        .arg("-kernel")
        .arg(image.join("vmlinux"))
        .arg("-initrd")
        .arg(image.join("initramfs.cpio"))
        .arg("-serial")
        .arg(format!("file:{}", dir.join("console.log").display()));
    for (name, device) in [
        ("rng", "vhost-user-rng"),
        ("vhost", "vhost-user-vsock-device"),
        ("fs", "vhost-user-fs-device,tag=share"),
    ] {
        let socket = dir.join(format!("{name}.sock"));
        command
            .arg("-chardev")
            .arg(format!("socket,id={name},path={}", socket.display()))
            .arg("-device")
            .arg(format!("{device},chardev={name}"));
    }
    command
}

fn console(dir: &Path) -> String {
    fs::read_to_string(dir.join("console.log")).unwrap_or_default()
}

pub fn hello(version: u32) -> HandshakeRequest {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    HandshakeRequest {
        version,
        time_seconds: now.as_secs() as i64,
        time_nanos: now.subsec_nanos() as i32,
        hostname: "guest-host".to_owned(),
        share_tag: SHARE_TAG.to_owned(),
        ..Default::default()
    }
}

pub fn container(id: &str) -> ContainerRequest {
    ContainerRequest { container_id: id.to_owned(), ..Default::default() }
}

pub fn stdio(stdin: bool, stdout: bool, stderr: bool) -> Stdio_ {
    Stdio_ { stdin, stdout, stderr, ..Default::default() }
}

/// The spec that the host makes of one of `ctr run`.
pub fn spec(id: &str, args: &[&str]) -> Value {
    let caps = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ];
    let mount = |destination: &str, typ: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": typ, "source": source, "options": options});
    json!({
        "ociVersion": "1.1.0",
        "process": {
            "user": {"uid": 0, "gid": 0, "additionalGids": [0, 1, 2, 3, 4, 6, 10]},
            "args": args,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": format!("{SHARE_DIR}/{id}/rootfs")},
        "hostname": id,
        "mounts": [
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm",
                &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/run", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "cgroup"}
            ],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
                "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                "/proc/sysrq-trigger"]
        }
    })
}
