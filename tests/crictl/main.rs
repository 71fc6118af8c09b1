//! The CRI as the kubelet uses it, by crictl, with the configuration of
//! containerd that `deploy/kubernetes` has: `make test-crictl`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use sandbox_tests::{Bed, Output, exec, paths, tests, until};
use serde_json::{Value, json};

tests![Ours a_pod_from_its_start_to_its_removal];

/// Where `tests/crictl/build` put crictl.
const CRICTL: &str = "SANDBOX_TEST_CRICTL";
const IMAGE: &str = "localhost/sandbox/test:1";
const PAUSE: &str = "localhost/sandbox/pause:1";
/// Where Debian has the CNI plugins.
const CNI: &str = "/usr/lib/cni";
const PORT: u16 = 18080;
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    sandbox_tests::main(&[TESTS])
}

fn a_pod_from_its_start_to_its_removal(bed: &Bed) {
    // The CNI's interfaces and port-forward's port are in a namespace that ends
    // with this process; containerd and crictl inherit it.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    run("ip", &["link", "set", "lo", "up"]);
    write_network(&bed.dir().join("cni"), bed.dir());
    bed.enable_cri(configuration(bed.dir()));
    import(bed);

    let pod = json!({
        "metadata": { "name": "pod", "namespace": "default", "uid": bed.id("pod"), "attempt": 1 },
        "hostname": "pod",
        "log_directory": bed.dir().join("logs"),
        "linux": {},
    });
    let container = json!({
        "metadata": { "name": "web" },
        "image": { "image": IMAGE },
        "command": ["sh", "-c", "echo begun; mkdir /www; echo hello >/www/index.html; \
            exec httpd -f -p 127.0.0.1:8080 -h /www"],
        "log_path": "web.log",
        "linux": {},
    });
    let [pod_file, container_file] =
        [("pod.json", &pod), ("container.json", &container)].map(|(name, value)| {
            let path = bed.dir().join(name);
            fs::write(&path, value.to_string()).unwrap();
            path.display().to_string()
        });

    let pod = crictl(bed, &["runp", "--runtime", "sandbox", &pod_file]).ok().text();
    let container = crictl(bed, &["create", &pod, &container_file, &pod_file]).ok().text();
    crictl(bed, &["start", &container]).ok();
    let ready = crictl(bed, &["pods", "--state", "ready", "-q", "--no-trunc"]).ok().text();
    assert_eq!(ready, pod);

    let kernel = crictl(bed, &["exec", "-s", &container, "uname", "-r"]).ok().text();
    assert!(kernel.ends_with("-sandbox"), "the container's kernel is {kernel}");
    crictl(bed, &["exec", "-s", &container, "sh", "-c", "exit 7"]).fails_with(&["7"]);
    let logs = until("the container's log", LIMIT, || {
        let text = crictl(bed, &["logs", &container]).ok().text();
        (!text.is_empty()).then_some(text)
    });
    assert_eq!(logs, "begun");
    let inspected: Value =
        serde_json::from_slice(&crictl(bed, &["inspectp", &pod]).ok().stdout).unwrap();
    assert!(inspected["status"]["network"]["ip"].is_string(), "no address: {inspected}");

    // A server that listens on loopback alone.
    let mut forward = command(bed, &["port-forward", &pod, &format!("{PORT}:8080")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let answer = until("port-forward answers", LIMIT, get);
    assert!(answer.ends_with("hello\n"), "{answer}");
    forward.kill().unwrap();
    forward.wait().unwrap();

    crictl(bed, &["stop", "--timeout", "1", &container]).ok();
    crictl(bed, &["rm", &container]).ok();
    crictl(bed, &["stopp", &pod]).ok();
    crictl(bed, &["rmp", &pod]).ok();
    assert_eq!(crictl(bed, &["pods", "-q"]).ok().text(), "");
}

/// The page, once there is one.
fn get() -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", PORT)).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    (!text.is_empty()).then_some(text)
}

fn command(bed: &Bed, arguments: &[&str]) -> Command {
    let program = std::env::var_os(CRICTL).expect("SANDBOX_TEST_CRICTL: make test-crictl sets it");
    let socket = format!("unix://{}", bed.dir().join("c.sock").display());
    let mut command = Command::new(program);
    // Without a file of this name crictl reads /etc/crictl.yaml.
    command.args(["--config", "/dev/null", "--timeout", "120s"]);
    command.args(["--runtime-endpoint", &socket, "--image-endpoint", &socket]).args(arguments);
    command
}

fn crictl(bed: &Bed, arguments: &[&str]) -> Output {
    exec(&mut command(bed, arguments), &[])
}

fn run(program: &str, arguments: &[&str]) {
    exec(Command::new(program).args(arguments), &[]).ok();
}

/// The test image and one whose program sleeps, which containerd 1.x runs in
/// each pod beside its containers.
fn import(bed: &Bed) {
    let pause = bed.dir().join("pause.tar");
    let script = paths::tree().join("deploy/demo/make-image.sh");
    let command = r#"["sleep","1000000"]"#;
    run(script.to_str().unwrap(), &[pause.to_str().unwrap(), PAUSE, "--command", command]);
    let test = PathBuf::from(std::env::var("SANDBOX_TEST_IMAGE").unwrap());
    for tar in [&pause, &test] {
        bed.ctr(&["--namespace", "k8s.io", "image", "import", tar.to_str().unwrap()]).ok();
    }
    until("the CRI has the images", LIMIT, || {
        let images = crictl(bed, &["images", "-q"]).ok().text();
        (images.lines().count() >= 2).then_some(())
    });
}

fn write_network(config: &Path, dir: &Path) {
    fs::create_dir_all(config).unwrap();
    let list = json!({
        "cniVersion": "0.4.0",
        "name": "test",
        "plugins": [{
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "dataDir": dir.join("ipam"),
                "subnet": "10.88.7.0/24",
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    });
    fs::write(config.join("10-test.conflist"), list.to_string()).unwrap();
}

/// containerd's configuration: that of the repository, and where this test
/// keeps its files.
fn configuration(dir: &Path) -> String {
    let version = exec(Command::new("containerd").arg("--version"), &[]).ok().text();
    let (deploy, dir) = (paths::tree().join("deploy/kubernetes"), dir.display());
    // The score of a child cannot go below that of this process.
    if version.contains(" 1.") {
        let stanza = fs::read_to_string(deploy.join("containerd-1.7.toml")).unwrap();
        return format!(
            r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{CNI}"
  conf_dir = "{dir}/cni"
{stanza}"#
        );
    }
    let import = deploy.join("containerd-2.toml");
    format!(
        r#"version = 3
imports = [{import:?}]
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{CNI}"]
  conf_dir = "{dir}/cni"
"#
    )
}
