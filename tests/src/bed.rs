//! What one test runs on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use tempfile::TempDir;

use crate::containerd::{self, Containerd, Setup};
use crate::{
    Network, Output, Rpc, Run, Sandbox, Shell, Shim, exec, image, in_lab, leftovers, paths,
    patience,
};

/// What a boot may take where nothing else is configured; more in the lab.
const BOOT: Duration = Duration::from_secs(30);

/// A folder, a private containerd in it that starts when it is first needed,
/// and a configuration of Sandbox with a state folder of its own. What a test
/// starts descends from the test's process, which adopts orphans.
pub struct Bed {
    dir: TempDir,
    containerd: Mutex<Option<Containerd>>,
    ids: Mutex<BTreeSet<String>>,
    network: OnceLock<Network>,
    kill_points: OnceLock<PathBuf>,
    cri: OnceLock<String>,
    containerd_tables: Mutex<String>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("sbx-").tempdir_in(paths::base()).unwrap();
        fs::create_dir(dir.path().join("fifo")).unwrap();
        let bed = Self {
            dir,
            containerd: Mutex::default(),
            ids: Mutex::default(),
            network: OnceLock::new(),
            kill_points: OnceLock::new(),
            cri: OnceLock::new(),
            containerd_tables: Mutex::default(),
        };
        bed.configure("");
        bed
    }

    /// The test's folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `state_dir` of the configuration.
    pub fn state_dir(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// Writes the configuration. A key that `lines` set replaces the usual
    /// one; a table goes last. Holds for containers created from now on.
    pub fn configure(&self, lines: &str) {
        let guest = paths::guest();
        let usual = [
            ("engine", paths::engine()),
            ("kernel", guest.join("vmlinux").display().to_string()),
            ("initramfs", guest.join("initramfs.cpio").display().to_string()),
            ("vmm", paths::binaries().join("sandbox-vmm").display().to_string()),
            ("state_dir", self.state_dir().display().to_string()),
        ];
        let set = |key: &str| {
            lines.lines().any(|line| line.split('=').next().is_some_and(|k| k.trim() == key))
        };
        let mut text = String::new();
        for (key, value) in usual.iter().filter(|(key, _)| !set(key)) {
            text.push_str(&format!("{key} = {value:?}\n"));
        }
        if !set("boot_timeout_seconds") && in_lab() {
            text.push_str(&format!("boot_timeout_seconds = {}\n", patience(BOOT).as_secs()));
        }
        text.push_str(lines);
        fs::write(self.config(), text).unwrap();
    }

    /// The configuration's file, as `SANDBOX_CONFIG` names it.
    pub fn config(&self) -> PathBuf {
        self.dir().join("sandbox.toml")
    }

    /// A container id that no other test uses.
    pub fn id(&self, name: &str) -> String {
        let id = format!("t{}-{name}", std::process::id());
        self.ids.lock().unwrap().insert(id.clone());
        id
    }

    /// Ids given out so far.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.ids.lock().unwrap().iter().cloned().collect()
    }

    /// Adds tables to containerd's configuration, from its next start on.
    pub fn configure_containerd(&self, tables: &str) {
        tables.clone_into(&mut self.containerd_tables.lock().unwrap());
    }

    /// containerd's gRPC socket.
    pub fn containerd_socket(&self) -> PathBuf {
        containerd::socket(self.dir())
    }

    /// The tar file of the image.
    pub fn image_file(&self) -> PathBuf {
        std::env::var_os(image::VARIABLE).expect("the runner sets it").into()
    }

    /// Starts containerd with the image in it, unless it runs.
    pub fn start_containerd(&self) {
        let mut containerd = self.containerd.lock().unwrap();
        if containerd.is_some() {
            return;
        }
        let first = !self.dir().join("root").exists();
        let mut setup = Setup::new(self.dir());
        setup.shims.splice(..0, self.kill_points.get().cloned());
        setup.tables.clone_from(&self.containerd_tables.lock().unwrap());
        setup.cri = self.cri.get().cloned();
        *containerd = Some(Containerd::start(&setup));
        if first {
            exec(self.bare_ctr().args(["image", "import"]).arg(self.image_file()), &[]).ok();
        }
    }

    /// Enables the CRI in this bed's containerd, which must not run yet.
    /// `configuration` begins with the version of the format.
    pub fn enable_cri(&self, configuration: String) {
        assert!(self.containerd.lock().unwrap().is_none(), "containerd runs without the CRI");
        self.cri.set(configuration).unwrap();
    }

    /// Has the next shim that comes by the point of this name end there. All
    /// shims of this bed must be such that can: the first call comes before its
    /// containerd.
    pub fn kill_at(&self, point: &str) {
        let folder = self.kill_points.get_or_init(|| {
            assert!(self.containerd.lock().unwrap().is_none(), "containerd has another shim");
            paths::kill_points()
        });
        assert!(folder.exists(), "{} is missing: make kill-points", folder.display());
        fs::write(containerd::kill_at(self.dir()), point).unwrap();
    }

    /// Has it wait at that point, instead of ending, until [`Bed::let_go`].
    pub fn hold_at(&self, point: &str) {
        self.kill_at(&format!("hold {point}"));
    }

    /// Whether a shim waits there.
    pub fn is_held(&self) -> bool {
        containerd::kill_at(self.dir()).with_extension("held").exists()
    }

    /// Has it go on.
    pub fn let_go(&self) {
        fs::remove_file(containerd::kill_at(self.dir()).with_extension("held")).unwrap();
    }

    /// Where the shim is.
    pub(crate) fn shim_folder(&self) -> PathBuf {
        self.kill_points.get().cloned().unwrap_or_else(paths::binaries)
    }

    /// Calls to the shim that containerd has started for a container.
    pub fn rpc(&self, id: &str) -> Rpc {
        Rpc::to(leftovers::shim_socket(&containerd::socket(self.dir()), id), id)
    }

    /// Whether a shim has ended at the point that was named last.
    pub fn was_killed(&self) -> bool {
        !containerd::kill_at(self.dir()).exists()
    }

    /// Pid of the running containerd.
    pub fn containerd_pid(&self) -> Option<i32> {
        self.containerd.lock().unwrap().as_ref().map(Containerd::pid)
    }

    /// Pods and a world for them, made when they are first asked for.
    pub fn network(&self) -> &Network {
        self.network.get_or_init(|| Network::new(&self.dir().join("network")))
    }

    /// Pids of what runs for the test and is no part of a container.
    pub(crate) fn own_processes(&self) -> Vec<i32> {
        let servers = self.network.get().map(Network::pids);
        self.containerd_pid().into_iter().chain(servers.into_iter().flatten()).collect()
    }

    /// Ends containerd with SIGKILL, if it runs; what it started lives on.
    pub fn kill_containerd(&self) {
        if let Some(containerd) = self.containerd.lock().unwrap().take() {
            containerd.kill();
        }
    }

    fn bare_ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(containerd::socket(self.dir()));
        command
    }

    /// `ctr`, asking this bed's containerd.
    pub fn ctr_command(&self) -> Command {
        self.start_containerd();
        self.bare_ctr()
    }

    /// Runs `ctr` with these arguments.
    pub fn ctr<S: AsRef<str>>(&self, words: &[S]) -> Output {
        exec(self.ctr_command().args(words.iter().map(AsRef::as_ref)), &[])
    }

    /// A `ctr run` of the container `name`; see [`Bed::id`].
    pub fn run(&self, name: &str) -> Run<'_> {
        Run::new(self, name)
    }

    /// A container that does lines of shell as they come; `with` adds to its
    /// `ctr run`.
    pub fn shell<'a>(&'a self, name: &str, with: impl FnOnce(Run<'a>) -> Run<'a>) -> Shell<'a> {
        Shell::start(self, name, with(self.run(name)))
    }

    /// `sandboxctl` with these words and this bed's configuration.
    pub fn ctl_command(&self, words: &[&str]) -> Command {
        let path = paths::binaries().display().to_string();
        let path = format!("{path}:{}", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(paths::ctl_binary());
        command.args(words).env("SANDBOX_CONFIG", self.config()).env("PATH", path);
        command
    }

    /// Runs it to its end.
    pub fn ctl(&self, words: &[&str]) -> Output {
        exec(&mut self.ctl_command(words), &[])
    }

    /// Status of a task in containerd's words: RUNNING, STOPPED, …
    pub fn task_status(&self, id: &str) -> Option<String> {
        let list = self.ctr(&["task", "list"]).ok().text();
        list.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words.first() == Some(&id)).then(|| words[2].to_owned())
        })
    }

    /// Removes a container and its task, ended or not.
    pub fn remove(&self, id: &str) {
        self.ctr(&["task", "delete", "--force", id]).ok();
        self.ctr(&["container", "delete", id]).ok();
    }

    /// Waits until containerd shows the task as ended.
    pub fn until_stopped(&self, id: &str) {
        crate::until("the task is STOPPED", Duration::from_secs(20), || {
            (self.task_status(id)? == "STOPPED").then_some(())
        });
    }

    /// Runs `spec` to its end under a shim of its own; see [`Shim::run`].
    pub fn run_spec(&self, name: &str, spec: serde_json::Value, stdin: &[u8]) -> Output {
        let root = self.rootfs(name);
        self.shim(name, spec).run(root, stdin)
    }

    /// A bundle of `spec` under a shim that this test drives itself.
    pub fn shim(&self, name: &str, spec: serde_json::Value) -> Shim {
        Shim::start(self, &self.id(name), spec)
    }

    /// A shim without a container, to be asked for a sandbox.
    pub fn sandbox(&self, name: &str) -> Sandbox {
        Sandbox::start(self, &self.id(name))
    }

    /// The image unpacked, for bundles and specs that name a root.
    pub fn rootfs(&self, name: &str) -> PathBuf {
        let root = self.dir().join(format!("rootfs-{name}"));
        image::unpack(&self.image_file(), &root);
        root
    }

    /// Keeps the folder; it would go with the bed.
    pub(crate) fn into_dir(self) -> PathBuf {
        self.dir.keep()
    }

    /// Panics with a list of what is left of the containers.
    pub fn assert_clean(&self) {
        leftovers::assert_none(self);
    }
}
