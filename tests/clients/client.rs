//! A command-line client of containers, on a bed's containerd.

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandbox_tests::{Bed, Output, exec, paths, until};

/// Name of the image in both clients.
pub const IMAGE: &str = "localhost/sandbox/test:1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Docker,
    Nerdctl,
}

/// A client with bridges and rules in a network namespace of the test's own.
pub struct Client<'a> {
    pub bed: &'a Bed,
    pub kind: Kind,
    /// The name of the case's first container, network, volume and project.
    pub id: String,
    daemon: RefCell<Option<Child>>,
}

/// Runs a case, then removes what it has made.
pub fn with(bed: &Bed, kind: Kind, case: fn(&Client)) {
    isolate();
    let client = Client { bed, kind, id: bed.id("a"), daemon: RefCell::default() };
    client.link_programs();
    // The restart policies of nerdctl are those of containerd's monitor.
    bed.configure_containerd(
        "[plugins.\"io.containerd.internal.v1.restart\"]\ninterval = \"1s\"\n",
    );
    bed.start_containerd();
    match kind {
        Kind::Docker => client.set_up_docker(),
        Kind::Nerdctl => client.set_up_nerdctl(),
    }
    case(&client);
    client.clear();
}

/// Bridges, addresses and firewall rules of a client go into a network
/// namespace that ends with the test; its mounts into a mount namespace.
fn isolate() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    // Leases of CNI plugins, and FIFOs that nerdctl leaves: no option moves them.
    for dir in ["/var/lib/cni", "/run/containerd/fifo"] {
        fs::create_dir_all(dir).unwrap();
        mount(Some("none"), dir, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    exec(Command::new("ip").args(["link", "set", "lo", "up"]), &[]).ok();
}

/// The path of a program in a directory of `PATH`.
fn which(program: &str) -> PathBuf {
    find(program, |dir| dir.join(program))
}

/// The path of a plug-in of Docker, which Debian installs beside the programs.
fn plugin(name: &str) -> PathBuf {
    find(name, |dir| dir.with_file_name("libexec/docker/cli-plugins").join(name))
}

fn find(name: &str, file: impl Fn(&Path) -> PathBuf) -> PathBuf {
    let path = std::env::var("PATH").unwrap();
    let mut files = path.split(':').map(|dir| file(Path::new(dir)));
    files.find(|file| file.exists()).unwrap_or_else(|| panic!("{name} is not in {path}"))
}

impl Client<'_> {
    fn dir(&self, name: &str) -> PathBuf {
        self.bed.dir().join(name)
    }

    /// Both clients look for the first process of `--init` under a name that
    /// Debian has no file of.
    fn link_programs(&self) {
        let bin = self.dir("bin");
        fs::create_dir(&bin).unwrap();
        for name in ["docker-init", "tini"] {
            symlink(which("tini-static"), bin.join(name)).unwrap();
        }
    }

    fn set_up_docker(&self) {
        let plugins = self.dir("docker-client/cli-plugins");
        fs::create_dir_all(&plugins).unwrap();
        for name in ["docker-buildx", "docker-compose"] {
            symlink(plugin(name), plugins.join(name)).unwrap();
        }
        self.start_daemon();
        let root = self.bed.rootfs("image");
        let archive = self.dir("image-root.tar");
        let tar = ["-C", root.to_str().unwrap(), "-cf", archive.to_str().unwrap(), "."];
        exec(Command::new("tar").args(tar), &[]).ok();
        self.call(&["import", archive.to_str().unwrap(), IMAGE]).ok();
    }

    fn set_up_nerdctl(&self) {
        for dir in ["nerdctl", "cni"] {
            fs::create_dir(self.dir(dir)).unwrap();
        }
    }

    /// Starts Docker's daemon.
    pub fn start_daemon(&self) {
        let log = File::options().create(true).append(true).open(self.dir("dockerd.log")).unwrap();
        let daemon = Command::new("dockerd")
            .arg("--containerd")
            .arg(self.bed.containerd_socket())
            .args(["--live-restore", "--data-root"])
            .arg(self.dir("docker"))
            .arg("--exec-root")
            .arg(self.dir("docker-run"))
            .arg("--pidfile")
            .arg(self.dir("docker.pid"))
            .arg("--userland-proxy-path")
            .arg(which("docker-proxy"))
            .arg("-H")
            .arg(self.docker_host())
            .env("PATH", self.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.daemon.borrow_mut() = Some(daemon);
        until("Docker answers", Duration::from_secs(30), || {
            (self.call(&["version"]).code == 0).then_some(())
        });
    }

    /// Ends Docker's daemon, and nothing that it has started.
    pub fn stop_daemon(&self) {
        if let Some(mut daemon) = self.daemon.borrow_mut().take() {
            let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap());
            kill(pid, Signal::SIGTERM).unwrap();
            daemon.wait().unwrap();
        }
    }

    fn docker_host(&self) -> String {
        format!("unix://{}", self.dir("docker.sock").display())
    }

    fn path(&self) -> String {
        format!("{}:{}", self.dir("bin").display(), std::env::var("PATH").unwrap())
    }

    /// The name of the runtime under test for this client.
    pub fn runtime(&self) -> String {
        match (self.kind, paths::runtime()) {
            (Kind::Nerdctl, ours) if paths::ours() => ours.replace("io.", "io.containerd."),
            (_, name) => name,
        }
    }

    /// The client's own words before those of a command, for a line of shell.
    pub fn line(&self) -> String {
        match self.kind {
            Kind::Docker => "docker".to_owned(),
            Kind::Nerdctl => format!("nerdctl {}", self.nerdctl_flags().join(" ")),
        }
    }

    fn nerdctl_flags(&self) -> Vec<String> {
        vec![
            format!("--address={}", self.bed.containerd_socket().display()),
            format!("--data-root={}", self.dir("nerdctl").display()),
            format!("--cni-netconfpath={}", self.dir("cni").display()),
            "--cni-path=/usr/lib/cni".to_owned(),
            "--cgroup-manager=cgroupfs".to_owned(),
        ]
    }

    /// A program with the client's environment.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command
            .env("PATH", self.path())
            .env("DOCKER_HOST", self.docker_host())
            .env("DOCKER_CONFIG", self.dir("docker-client"));
        command
    }

    /// The client with these words.
    pub fn command<S: AsRef<str>>(&self, words: &[S]) -> Command {
        let mut command = match self.kind {
            Kind::Docker => self.program("docker"),
            Kind::Nerdctl => {
                let mut command = self.program("nerdctl");
                command.args(self.nerdctl_flags());
                command
            }
        };
        command.args(words.iter().map(AsRef::as_ref));
        command
    }

    /// Runs the client with these words to its end.
    pub fn call<S: AsRef<str>>(&self, words: &[S]) -> Output {
        exec(&mut self.command(words), &[])
    }

    /// Runs it and returns its standard output; panics when it fails.
    #[track_caller]
    pub fn text<S: AsRef<str>>(&self, words: &[S]) -> String {
        self.call(words).ok().text()
    }

    /// `run` with these words, to the container's end.
    pub fn run(&self, words: &[&str]) -> Output {
        let runtime = self.runtime();
        self.call(&[&["run", "--runtime", &runtime], words].concat())
    }

    /// `run -d --name NAME` with these words.
    #[track_caller]
    pub fn start(&self, name: &str, words: &[&str]) {
        self.run(&[&["-d", "--name", name], words].concat()).ok();
    }

    /// `exec` in the case's container; its standard output.
    #[track_caller]
    pub fn inside(&self, words: &[&str]) -> String {
        self.text(&[&["exec", &self.id], words].concat())
    }

    /// A field of `inspect` of the case's container.
    #[track_caller]
    pub fn inspect(&self, template: &str) -> String {
        self.text(&["inspect", "-f", template, &self.id])
    }

    /// Whether the case's container is `running`, `exited`, …
    pub fn is(&self, state: &str) -> bool {
        self.inspect("{{.State.Status}}") == state
    }

    #[track_caller]
    pub fn until_is(&self, state: &str, seconds: u64) {
        self.until(state, seconds, || self.is(state));
    }

    #[track_caller]
    pub fn until(&self, what: &str, seconds: u64, probe: impl Fn() -> bool) {
        until(what, Duration::from_secs(seconds), || probe().then_some(()));
    }

    /// Prints why a case, or a part of one, cannot exist for this client.
    pub fn lacks(&self, kind: Kind, reason: &str) -> bool {
        if self.kind == kind {
            println!("left out: {kind:?}: {reason}");
        }
        self.kind == kind
    }

    /// Removes what the case has made. What remains of a container fails the
    /// test, as in every other.
    fn clear(&self) {
        let all = self.text(&["ps", "-aq"]);
        for id in all.lines() {
            self.call(&["rm", "-f", id]).ok();
        }
        self.stop_daemon();
        // The data of the clients: no mounts of ours are below it.
        let table = fs::read_to_string("/proc/self/mounts").unwrap();
        let own = ["docker", "nerdctl"].map(|name| self.dir(name).display().to_string());
        for target in table.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
            if own.iter().any(|dir| target.starts_with(dir.as_str())) {
                umount2(target, MntFlags::MNT_DETACH).unwrap();
            }
        }
    }
}
