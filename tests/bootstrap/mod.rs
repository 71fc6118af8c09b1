//! `start`, `delete`, `-info` and `-v`: what containerd runs before and after
//! it speaks to a shim. Each of its dialects is spoken here, whichever
//! containerd the machine has.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::types::introspection::RuntimeInfo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protobuf::Message;
use sandbox_tests::{Bed, Output, Process, exec, patience, shim_binary, spec, tests, until};
use serde_json::json;

tests![
    Ours the_bare_address_for_1_6,
    Ours the_bare_address_for_1_7,
    Ours json_for_2_0,
    Ours a_message_for_2_3,
    Ours twenty_starts_make_one_shim,
    Ours a_container_joins_the_shim_of_its_pod,
    Ours a_dead_shims_socket_is_replaced,
    Ours a_shim_that_containerd_forgot_ends,
    Ours delete_can_be_repeated,
    Ours delete_leaves_a_living_pod_alone,
    Ours climbing_ids_are_refused,
    Ours info_is_quick,
];

/// The longest that the end of a shim may take.
const LIMIT: Duration = Duration::from_secs(5);

/// A bundle as containerd makes it, and calls of the shim's binary for it.
struct Bundle<'a> {
    bed: &'a Bed,
    id: String,
    dir: PathBuf,
}

impl<'a> Bundle<'a> {
    fn new(bed: &'a Bed, name: &str, pod: Option<&str>) -> Self {
        let id = bed.id(name);
        let dir = bed.dir().join("bundles").join(&id);
        fs::create_dir_all(dir.join("rootfs")).unwrap();
        let mut config = spec(&["true"]);
        if let Some(pod) = pod {
            config["annotations"] = json!({ "io.kubernetes.cri.sandbox-id": pod });
        }
        fs::write(dir.join("config.json"), config.to_string()).unwrap();
        Self { bed, id, dir }
    }

    fn command(&self, action: &str) -> Command {
        self.command_of(Path::new("/none"), action)
    }

    /// As the containerd of this binary says it.
    fn command_of(&self, containerd: &Path, action: &str) -> Command {
        let mut command = self.bare_command();
        command.args(["-id", &self.id, "-publish-binary"]).arg(containerd).arg(action);
        command
    }

    fn bare_command(&self) -> Command {
        let mut command = Command::new(shim_binary());
        command
            .current_dir(&self.dir)
            .args(["-namespace", "default", "-address"])
            .arg(self.bed.dir().join("c.sock"))
            .env("TTRPC_ADDRESS", self.bed.dir().join("c.sock.ttrpc"))
            .env("SANDBOX_CONFIG", self.bed.config())
            .env_remove("MAX_SHIM_VERSION");
        command
    }

    /// `start` as containerd 1.6 says it.
    fn start(&self) -> String {
        let output = exec(&mut self.command("start"), b"").ok();
        assert_eq!(output.errors(), "");
        output.text()
    }

    fn delete(&self) -> DeleteResponse {
        let began = Instant::now();
        let output = exec(&mut self.command("delete"), b"").ok();
        assert_eq!(output.errors(), "");
        assert!(began.elapsed() < patience(LIMIT));
        DeleteResponse::parse_from_bytes(&output.stdout).unwrap()
    }

    fn shim(&self) -> Process {
        let kept = fs::read(self.dir.join("shim.json")).unwrap();
        let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
        Process::read(kept["pid"].as_i64().unwrap().try_into().unwrap()).unwrap()
    }

    /// Asks the shim to end, and sees it gone with its socket.
    fn end(&self) {
        let shim = self.shim();
        kill(Pid::from_raw(shim.pid), Signal::SIGTERM).unwrap();
        self.is_gone(&shim);
    }

    fn is_gone(&self, shim: &Process) {
        let address = fs::read_to_string(self.dir.join("address")).unwrap();
        until("the shim ends", LIMIT, || (!alive(shim)).then_some(()));
        assert!(!socket(&address).exists());
        self.bed.assert_clean();
    }
}

/// Orphans come to the test's process, which takes them in when it looks for
/// leftovers: what is dead and not taken in is dead.
fn alive(process: &Process) -> bool {
    process.lives() && Process::read(process.pid).is_some_and(|now| now.state != 'Z')
}

fn socket(address: &str) -> &Path {
    Path::new(address.strip_prefix("unix://").unwrap())
}

/// The address names a private socket on which somebody accepts.
fn assert_served(address: &str) {
    let path = socket(address);
    UnixStream::connect(path).unwrap();
    assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600);
}

/// A program that answers `--version` as a containerd does.
fn containerd_that_says(bed: &Bed, version: &str) -> PathBuf {
    let path = bed.dir().join("containerd-of-another-version");
    fs::write(&path, format!("#!/bin/sh\necho containerd x {version} abc\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn start_with_version(bundle: &Bundle, version: &str) -> Output {
    let mut command = bundle.command_of(&containerd_that_says(bundle.bed, version), "start");
    exec(command.env("MAX_SHIM_VERSION", "2"), b"").ok()
}

fn the_bare_address_for_1_6(bed: &Bed) {
    let bundle = Bundle::new(bed, "a", None);
    let address = bundle.start();
    assert_served(&address);
    assert_eq!(fs::read_to_string(bundle.dir.join("address")).unwrap(), address);
    bundle.end();
}

fn the_bare_address_for_1_7(bed: &Bed) {
    let bundle = Bundle::new(bed, "a", None);
    let output = start_with_version(&bundle, "1.7.27");
    assert_eq!(output.errors(), "");
    assert_served(&output.text());
    bundle.end();
}

fn json_for_2_0(bed: &Bed) {
    let bundle = Bundle::new(bed, "a", None);
    let output = start_with_version(&bundle, "v2.1.4");
    assert_eq!(output.errors(), "");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let address = answer["address"].as_str().unwrap().to_owned();
    assert_eq!(answer, json!({ "version": 3, "address": address, "protocol": "ttrpc" }));
    assert_served(&address);
    bundle.end();
}

fn a_message_for_2_3(bed: &Bed) {
    let bundle = Bundle::new(bed, "a", None);
    let params = BootstrapParams {
        instance_id: bundle.id.clone(),
        namespace: "default".into(),
        containerd_grpc_address: bed.dir().join("c.sock").display().to_string(),
        containerd_ttrpc_address: bed.dir().join("c.sock.ttrpc").display().to_string(),
        ..Default::default()
    };
    let mut command = bundle.command("start");
    command.env_remove("TTRPC_ADDRESS").env("MAX_SHIM_VERSION", "2");
    let output = exec(&mut command, &params.write_to_bytes().unwrap()).ok();
    assert_eq!(output.errors(), "");
    let answer = BootstrapResult::parse_from_bytes(&output.stdout).unwrap();
    assert_eq!((answer.version, answer.protocol.as_str()), (3, "ttrpc"));
    assert_served(&answer.address);
    bundle.end();
}

/// R22.
fn twenty_starts_make_one_shim(bed: &Bed) {
    let bundle = Bundle::new(bed, "a", None);
    let addresses: Vec<_> = thread::scope(|scope| {
        let starts: Vec<_> = (0..20).map(|_| scope.spawn(|| bundle.start())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
    assert_served(&addresses[0]);
    let shims = Process::all().into_iter().filter(|process| {
        let arguments = process.arguments();
        arguments.contains(&bundle.id) && arguments.iter().any(|word| word == "-socket")
    });
    assert_eq!(shims.count(), 1);
    bundle.end();
}

fn a_container_joins_the_shim_of_its_pod(bed: &Bed) {
    let pod = Bundle::new(bed, "pod", None);
    let member = Bundle::new(bed, "member", Some(&pod.id));
    let address = pod.start();
    assert_eq!(member.start(), address);
    assert_eq!(fs::read_to_string(member.dir.join("address")).unwrap(), address);
    pod.end();
}

/// R35.
fn a_dead_shims_socket_is_replaced(bed: &Bed) {
    let bundle = Bundle::new(bed, "a", None);
    let address = bundle.start();
    let first = bundle.shim();
    first.kill();
    until("the first shim is dead", LIMIT, || (!alive(&first)).then_some(()));
    assert!(socket(&address).exists(), "it could not clean up");
    assert_eq!(bundle.start(), address);
    assert_served(&address);
    assert_ne!(bundle.shim().pid, first.pid);
    bundle.end();
}

/// containerd 1.6 leaves a shim alone when it dies between `start` and Create.
fn a_shim_that_containerd_forgot_ends(bed: &Bed) {
    let bundle = Bundle::new(bed, "a", None);
    let address = bundle.start();
    let shim = bundle.shim();
    fs::remove_dir_all(&bundle.dir).unwrap();
    until("the shim ends", LIMIT, || (!alive(&shim)).then_some(()));
    assert!(!socket(&address).exists());
    bed.assert_clean();
}

fn delete_can_be_repeated(bed: &Bed) {
    let bundle = Bundle::new(bed, "a", None);
    let address = bundle.start();
    let shim = bundle.shim();
    shim.kill();
    until("the shim is dead", LIMIT, || (!alive(&shim)).then_some(()));
    for _ in 0..3 {
        let answer = bundle.delete();
        assert_eq!(answer.exit_status, 137);
        assert!(answer.exited_at.seconds > 0);
        assert!(!socket(&address).exists());
    }
    bed.assert_clean();
}

fn delete_leaves_a_living_pod_alone(bed: &Bed) {
    let pod = Bundle::new(bed, "pod", None);
    let member = Bundle::new(bed, "member", Some(&pod.id));
    let address = pod.start();
    // As containerd 2 joins it: without `start`, the address in a file of its own.
    let kept = json!({ "version": 3, "address": address, "protocol": "ttrpc" });
    fs::write(member.dir.join("bootstrap.json"), kept.to_string()).unwrap();
    assert_eq!(member.delete().exit_status, 137);
    assert_served(&address);
    assert!(alive(&pod.shim()));
    pod.end();
}

fn climbing_ids_are_refused(bed: &Bed) {
    let bundle = Bundle::new(bed, "a", None);
    let long = "x".repeat(300);
    for id in ["../up", "..", ".", "a/b", "/etc", "ünïcode", "-dash", "a b", "a\n", &long] {
        let shown: String = id.chars().take(20).collect();
        let shown = shown.escape_debug().to_string();
        let output = exec(bundle.bare_command().args(["-id", id, "start"]), b"");
        assert_eq!(output.stdout, b"", "{id:?}");
        output.fails_with(&["id", &shown]);
    }
    assert!(!bundle.dir.join("address").exists());
    bed.assert_clean();
}

fn info_is_quick(bed: &Bed) {
    let run = |flag: &str| {
        let began = Instant::now();
        let output = exec(Command::new(shim_binary()).arg(flag).current_dir(bed.dir()), b"").ok();
        assert_eq!(output.errors(), "");
        (output, began.elapsed())
    };
    let (info, took) = (0..5).map(|_| run("-info")).min_by_key(|(_, took)| *took).unwrap();
    let info = RuntimeInfo::parse_from_bytes(&info.stdout).unwrap();
    assert_eq!(info.name, "io.sandbox.v1");
    assert!(took < patience(Duration::from_millis(50)), "{took:?}");
    let (version, _) = run("-v");
    assert!(version.text().contains(&info.version.version));
}
