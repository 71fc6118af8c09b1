//! Pods that are made before their containers: the Sandbox service.

pub mod restart;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use containerd_shim_protos::cgroups_v2::metrics::Metrics;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use sandbox_tests::{Bed, Rpc, Sandbox, Wanted, code, spec, tests, until};
use serde_json::{Value, json};
use ttrpc::Code;

tests![
    Ours containers_share_their_sandbox_and_not_their_ends,
    Ours want_of_memory_in_one_leaves_the_others_alone,
    Ours a_sandbox_is_stopped_with_all_that_runs_in_it,
    Ours the_end_of_a_machine_is_the_end_of_its_sandbox,
    Ours a_sandbox_has_its_network_its_name_and_its_servers,
    Ours sandboxes_that_cannot_be,
    Ours connect_knows_the_sandbox_by_its_own_id,
];

fn started(bed: &Bed, wanted: &Wanted) -> Sandbox {
    let sandbox = bed.sandbox("s");
    sandbox.create(&sandbox.request(wanted)).unwrap();
    assert!(sandbox.begin().unwrap().pid > 0);
    sandbox
}

/// A spec as the CRI makes it for a pod's container: it joins what the pod has.
fn member(line: &str) -> Value {
    let mut spec = spec(&["sh", "-c", line]);
    let path = |kind: &str| json!({"type": kind, "path": format!("/proc/1/ns/{kind}")});
    spec["linux"]["namespaces"] = json!([
        {"type": "pid"}, {"type": "mount"}, path("ipc"), path("uts"),
        {"type": "network", "path": "/proc/1/ns/net"}
    ]);
    spec
}

fn run(bed: &Bed, sandbox: &Sandbox, name: &str, spec: Value) -> (Rpc, std::path::PathBuf) {
    let (rpc, out) = sandbox.container(bed, name, spec).unwrap();
    rpc.start().unwrap();
    (rpc, out)
}

/// Output of a container that ends.
fn told(bed: &Bed, sandbox: &Sandbox, name: &str, line: &str) -> String {
    let (rpc, out) = run(bed, sandbox, name, member(line));
    assert_eq!(rpc.wait().unwrap().exit_status, 0, "{line}");
    rpc.delete().unwrap();
    fs::read_to_string(out).unwrap().trim().to_owned()
}

fn says(out: &Path, text: &str) {
    until(&format!("it says {text}"), Duration::from_secs(20), || {
        fs::read_to_string(out).is_ok_and(|told| told.contains(text)).then_some(())
    });
}

fn status(error: ttrpc::Error) -> Code {
    code(&error).unwrap_or_else(|| panic!("not a status: {error}"))
}

/// R32: network, IPC, host name and shared memory are the sandbox's; root file
/// systems and processes are each container's. What one ends with ends no other,
/// and without containers the sandbox is there for more.
fn containers_share_their_sandbox_and_not_their_ends(bed: &Bed) {
    let sandbox = started(bed, &Wanted::default());
    let platform = sandbox.platform().unwrap().platform;
    assert_eq!((platform.os.as_str(), platform.architecture.as_str()), ("linux", "amd64"));
    let line = "echo hello >/dev/shm/x; echo own >/own; readlink /proc/self/ns/net \
                /proc/self/ns/ipc /proc/self/ns/uts; echo so; exec sleep 1000";
    let (first, out) = run(bed, &sandbox, "a", member(line));
    says(&out, "so");
    let namespaces = "readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts";
    let second = told(bed, &sandbox, "b", &format!("{namespaces}; echo so"));
    assert_eq!(second, fs::read_to_string(&out).unwrap().trim());
    assert_eq!(
        told(bed, &sandbox, "c", "cat /dev/shm/x; [ -e /own ] || echo apart"),
        "hello\napart"
    );
    let now = sandbox.status().unwrap();
    assert_eq!(now.state, "SANDBOX_READY");
    assert_eq!(now.info["containers"], bed.id("a"));
    let metrics = sandbox.metrics().unwrap();
    let data = metrics.metrics.data.as_ref().unwrap();
    let used = Metrics::parse_from_bytes(&data.value).unwrap();
    assert!(used.cpu.usage_usec > 0 && used.memory.usage > 0 && used.pids.current >= 1, "{used}");
    first.kill(9, true).unwrap();
    first.wait().unwrap();
    first.delete().unwrap();
    // As containerd does after a task; the sandbox stays.
    let request = containerd_shim_protos::api::ShutdownRequest::default();
    let rpc = sandbox.shim().rpc();
    rpc.call::<_, containerd_shim_protos::api::Empty>("Shutdown", &request).unwrap();
    sandbox.ping().unwrap();
    assert_eq!(told(bed, &sandbox, "d", "cat /dev/shm/x"), "hello");
    sandbox.stop().unwrap();
    assert_eq!(sandbox.wait().unwrap().exit_status, 0);
    sandbox.shutdown();
}

/// containerd connects so to each shim when it restarts.
fn connect_knows_the_sandbox_by_its_own_id(bed: &Bed) {
    let sandbox = bed.sandbox("s");
    let rpc = sandbox.shim().rpc();
    assert_eq!(status(rpc.connect().unwrap_err()), Code::NOT_FOUND, "no sandbox was created");
    sandbox.create(&sandbox.request(&Wanted::default())).unwrap();
    let answer = rpc.connect().unwrap();
    assert!(answer.shim_pid > 0 && answer.shim_pid != answer.task_pid, "{answer}");
    assert_eq!(answer.task_pid, sandbox.status().unwrap().pid);
    sandbox.shutdown();
}

fn want_of_memory_in_one_leaves_the_others_alone(bed: &Bed) {
    let sandbox = started(bed, &Wanted::default());
    let (other, out) = run(bed, &sandbox, "a", member("echo so; exec sleep 1000"));
    says(&out, "so");
    let mut hungry = member("exec toolbox eat 200");
    hungry["linux"]["resources"]["memory"] = json!({"limit": 32 << 20});
    let (hungry, _) = run(bed, &sandbox, "b", hungry);
    assert_eq!(hungry.wait().unwrap().exit_status, 137);
    hungry.delete().unwrap();
    assert!(sandbox.shim().topics().contains(&"/tasks/oom".to_owned()));
    let pids = other.pids().unwrap();
    assert!(!pids.processes.is_empty());
    sandbox.ping().unwrap();
    sandbox.shutdown();
}

/// Who waits is told; so are containers, with SIGKILL's status.
fn a_sandbox_is_stopped_with_all_that_runs_in_it(bed: &Bed) {
    let sandbox = started(bed, &Wanted::default());
    let (container, out) = run(bed, &sandbox, "a", member("echo so; exec sleep 1000"));
    says(&out, "so");
    thread::scope(|scope| {
        let waits = scope.spawn(|| sandbox.wait().unwrap());
        sandbox.stop().unwrap();
        sandbox.stop().unwrap();
        assert_eq!(waits.join().unwrap().exit_status, 0);
    });
    let now = sandbox.status().unwrap();
    assert_eq!(now.state, "SANDBOX_NOTREADY");
    assert!(now.created_at.seconds > 0 && now.exited_at.seconds >= now.created_at.seconds);
    assert_eq!(container.wait().unwrap().exit_status, 137);
    container.delete().unwrap();
    assert_eq!(status(sandbox.ping().unwrap_err()), Code::UNAVAILABLE);
    sandbox.shutdown();
}

/// R27 for sandboxes.
fn the_end_of_a_machine_is_the_end_of_its_sandbox(bed: &Bed) {
    let sandbox = started(bed, &Wanted::default());
    let machine = sandbox.status().unwrap().pid;
    let machine = sandbox_tests::Process::read(machine.try_into().unwrap()).unwrap();
    machine.kill();
    assert_eq!(sandbox.wait().unwrap().exit_status, 137);
    assert_eq!(sandbox.status().unwrap().state, "SANDBOX_NOTREADY");
    sandbox.shutdown();
}

fn a_sandbox_has_its_network_its_name_and_its_servers(bed: &Bed) {
    let network = bed.network();
    let wanted = Wanted {
        netns: network.pod().namespace.path().display().to_string(),
        hostname: "some-pod".into(),
        servers: vec!["192.0.2.53".into()],
        sysctls: [("net.core.somaxconn", "77"), ("kernel.msgmax", "4242")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    };
    let sandbox = started(bed, &wanted);
    assert_eq!(told(bed, &sandbox, "a", "uname -n"), "some-pod");
    assert_eq!(told(bed, &sandbox, "b", "cat /etc/resolv.conf"), "nameserver 192.0.2.53");
    let files = "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax";
    assert_eq!(told(bed, &sandbox, "d", files), "77\n4242");
    let shown = told(bed, &sandbox, "c", "ip addr show");
    assert!(shown.contains(&network.pod().address.v4.to_string()), "{shown}");
    sandbox.shutdown();
}

fn sandboxes_that_cannot_be(bed: &Bed) {
    let sandbox = bed.sandbox("s");
    assert_eq!(status(sandbox.begin().unwrap_err()), Code::NOT_FOUND);
    assert_eq!(status(sandbox.status().unwrap_err()), Code::NOT_FOUND);
    let mut request = sandbox.request(&Wanted::default());
    request.sandbox_id = "another".into();
    assert_eq!(status(sandbox.create(&request).unwrap_err()), Code::INVALID_ARGUMENT);
    let mut request = sandbox.request(&Wanted::default());
    request.options = Some(Any { type_url: "some.Thing".into(), ..Default::default() }).into();
    let error = sandbox.create(&request).unwrap_err();
    assert!(error.to_string().contains("some.Thing"), "{error}");
    assert_eq!(status(error), Code::INVALID_ARGUMENT);
    request.options.mut_or_insert_default().type_url = "runtime.v1.PodSandboxConfig".into();
    request.options.mut_or_insert_default().value = vec![0xff; 8];
    assert_eq!(status(sandbox.create(&request).unwrap_err()), Code::INVALID_ARGUMENT);
    let right = sandbox.request(&Wanted::default());
    sandbox.create(&right).unwrap();
    assert_eq!(status(sandbox.create(&right).unwrap_err()), Code::ALREADY_EXISTS);
    sandbox.begin().unwrap();
    assert_eq!(status(sandbox.begin().unwrap_err()), Code::FAILED_PRECONDITION);
    sandbox.shutdown();

    let sandbox = bed.sandbox("t");
    let nowhere = Wanted { netns: "/run/netns/nowhere".into(), ..Wanted::default() };
    let error = sandbox.create(&sandbox.request(&nowhere)).unwrap_err();
    assert!(error.to_string().contains("/run/netns/nowhere"), "{error}");
    sandbox.shutdown();
}
