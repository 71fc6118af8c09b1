//! Namespaces that nobody has furnished before: hooks do it, or the runtime,
//! or it is the host's own.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbox_tests::network::{METADATA, SCRIPT, SERVER};
use sandbox_tests::{Bed, Process, spec, tests, until};
use serde_json::json;

tests![
    Any hooks_furnish_a_namespace_of_the_containers_own,
    Any what_is_furnished_before_the_start_is_the_containers,
    Any a_hook_that_fails_is_told_with_its_words,
    Any the_hosts_network_is_had_where_it_is_allowed,
    Ours the_hosts_network_is_refused_where_it_is_not_allowed,
    Ours the_developer_network_goes_out_by_the_host,
    Ours a_namespace_with_loopback_alone_reaches_nothing,
    Ours the_io_process_is_in_the_pods_namespace_and_cgroup,
    Ours the_network_adds_little_to_an_idle_pod,
];

/// A hook: an executable script.
pub fn hook(bed: &Bed, name: &str, script: &str) -> PathBuf {
    let path = bed.dir().join(name);
    fs::write(&path, format!("#!/bin/sh\nset -e\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n{script}\n"))
        .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The hooks of a phase: this one.
pub fn entry(path: &Path) -> serde_json::Value {
    json!([{ "path": path, "args": [path] }])
}

/// As nerdctl does it: a createRuntime hook gets the container's state with a
/// pid in the namespace, and puts an interface there.
fn hooks_furnish_a_namespace_of_the_containers_own(bed: &Bed) {
    let network = bed.network();
    let world = network.world.path().display().to_string();
    let create = hook(
        bed,
        "create",
        &format!(
            "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p')\n\
             nsenter --net={world} ip link add made type veth peer name eth0 netns $pid\n\
             nsenter --net={world} ip address add 10.77.9.1/24 dev made\n\
             nsenter --net={world} ip link set made up\n\
             nsenter --net=/proc/$pid/ns/net ip -batch - <<END\n\
             link set lo up\naddress add 10.77.9.2/24 dev eth0\nlink set eth0 up\n\
             route add default via 10.77.9.1\nEND"
        ),
    );
    let marks = bed.dir().join("marks");
    let mark = |name: &str| {
        hook(bed, name, &format!("grep -o '\"status\": *\"[a-z]*\"' >>{}", marks.display()))
    };
    let mut spec = spec(&[
        "sh",
        "-c",
        &format!("toolbox tcp {}:{SCRIPT} say:tell-peer,close line recv; ip route", SERVER.v4),
    ]);
    spec["hooks"] = json!({
        "createRuntime": entry(&create),
        "poststart": entry(&mark("poststart")),
        "poststop": entry(&mark("poststop")),
    });
    let out = bed.run_spec("a", spec, &[]).ok();
    assert!(out.text().contains("line=10.77.9.2:"), "{}", out.text());
    assert!(out.text().contains("default via 10.77.9.1 dev eth0"), "{}", out.text());
    let told = fs::read_to_string(&marks).unwrap().replace(' ', "");
    assert!(told.ends_with("\"status\":\"stopped\"\n"), "{told}");
    assert_eq!(told.lines().count(), 2, "{told}");
    // The namespace is gone, and its end of the pair with it.
    until("the pair is gone", Duration::from_secs(10), || {
        (network.world.exec("ip", &["link", "show", "made"], &[]).code != 0).then_some(())
    });
}

/// As `ctr run --cni` and Docker do it: an interface comes into the namespace
/// of the task's pid once it was created, and nothing into the host's.
fn what_is_furnished_before_the_start_is_the_containers(bed: &Bed) {
    let network = bed.network();
    let line = format!(
        "toolbox tcp {}:{SCRIPT} say:tell-peer,close line recv >/seen; ip route >>/seen; \
         exec toolbox listen 0.0.0.0:80 say:hello",
        SERVER.v4
    );
    let shim = bed.shim("a", spec(&["sh", "-c", &line]));
    let root = bed.rootfs("a");
    let created = shim.create(&shim.request(root.clone())).unwrap();
    let namespace = format!("/proc/{}/ns/net", created.pid);
    let inode = |path: &str| fs::metadata(path).unwrap().ino();
    assert_ne!(inode(&namespace), inode("/proc/self/ns/net"), "CNI would furnish the host");
    let ip = |words: &[&str]| network.world.exec("ip", words, &[]).ok();
    let pid = created.pid.to_string();
    ip(&["link", "add", "made", "type", "veth", "peer", "name", "eth0", "netns", &pid]);
    ip(&["address", "add", "10.77.9.1/24", "dev", "made"]);
    ip(&["link", "set", "made", "up"]);
    let batch = "address add 10.77.9.2/24 dev eth0\nlink set eth0 up\n\
                 route add default via 10.77.9.1\n";
    let file = bed.dir().join("batch");
    fs::write(&file, batch).unwrap();
    let entered = format!("--net={namespace}");
    let words = [&entered, "ip", "-batch", file.to_str().unwrap()];
    network.world.exec("nsenter", &words, &[]).ok();
    shim.rpc().start().unwrap();

    let told = until("the container's port", Duration::from_secs(30), || {
        let told = network.world.toolbox(&["tcp", "10.77.9.2:80", "line"]);
        (!told.contains("ECONNREFUSED")).then_some(told)
    });
    assert_eq!(told, "connect=ok line=hello");
    let seen = fs::read_to_string(root.join("seen")).unwrap();
    assert!(seen.contains("line=10.77.9.2:"), "{seen}");
    assert!(seen.contains("default via 10.77.9.1 dev eth0"), "{seen}");
    shim.rpc().kill(9, true).unwrap();
    shim.rpc().wait().unwrap();
    shim.rpc().delete().unwrap();
    shim.shutdown();
}

fn a_hook_that_fails_is_told_with_its_words(bed: &Bed) {
    let path = hook(bed, "failing", "echo no network for you >&2; exit 3");
    let mut spec = spec(&["true"]);
    spec["hooks"] = json!({ "createRuntime": entry(&path) });
    bed.run_spec("a", spec, &[]).fails_with(&["hook", "no network for you"]);
}

/// Starts the bed's containerd in the test's pod: what follows takes that
/// namespace for the host's.
fn host_is_the_pod(bed: &Bed) {
    let pod = bed.network().pod();
    pod.namespace.run(|| bed.start_containerd());
}

/// `ctr run --net-host`: the host's addresses, and its ports.
fn the_hosts_network_is_had_where_it_is_allowed(bed: &Bed) {
    bed.configure("[network]\nallow_host = true\n");
    host_is_the_pod(bed);
    let network = bed.network();
    let shell = bed.shell("a", |run| run.flags(&["--net-host"]));
    let told = shell.line(&format!("toolbox tcp {}:{SCRIPT} say:tell-peer,close line", SERVER.v4));
    assert!(told.contains(&format!("line={}:", network.pod().address.v4)), "{told}");
    shell.begin("toolbox listen 0.0.0.0:8080 say:hello");
    let to = SocketAddr::new(network.pod().address.v4.into(), 8080).to_string();
    until("the container's port", Duration::from_secs(20), || {
        network.world.toolbox(&["tcp", &to, "line"]).ends_with("line=hello").then_some(())
    });
    shell.end();
}

fn the_hosts_network_is_refused_where_it_is_not_allowed(bed: &Bed) {
    host_is_the_pod(bed);
    let run = bed.run("a").flags(&["--net-host"]);
    run.foreground(&["true"]).fails_with(&["host", "allow_host"]);
    // The same by another name.
    let own = format!("/proc/{}/ns/net", bed.containerd_pid().unwrap());
    let run = bed.run("b").flags(&[format!("--with-ns=network:{own}")]);
    run.foreground(&["true"]).fails_with(&["host", "allow_host"]);
}

/// `ctr run` without anything: out by the host's addresses, nothing in, and
/// not to the host itself.
fn the_developer_network_goes_out_by_the_host(bed: &Bed) {
    host_is_the_pod(bed);
    let network = bed.network();
    network.dns.set_addresses("api.world.test", &SERVER.each());
    let host = network.pod();
    network.serve(&host.namespace, "host", &["listen", "[::]:9100", "say:secret"]);
    let resolv_conf = host.flags().remove(1);
    let shell = bed.shell("a", |run| run.flags(&[resolv_conf]));
    for (ip, own) in SERVER.each().into_iter().zip(host.address.each()) {
        let server = SocketAddr::new(ip, SCRIPT);
        let told = shell.line(&format!("toolbox tcp {server} say:tell-peer,close line recv"));
        let seen = told.split(['=', ' ']).find_map(|word| word.parse::<SocketAddr>().ok());
        assert_eq!(seen.map(|seen| seen.ip()), Some(own), "{told}");
        let told = shell.line(&format!("ping -c 1 -W 10 {ip} | grep -c 'bytes from'"));
        assert_eq!(told, "1", "ping {ip}");
    }
    let told = shell.line("toolbox tcp-name api.world.test 443 line");
    assert_eq!(told, "connect=ok line=hello");
    let closed = host.address.each().map(|ip| SocketAddr::new(ip, 9100));
    for to in closed.into_iter().chain([SocketAddr::new(METADATA.into(), 80)]) {
        let told = shell.line(&format!("toolbox tcp {to} recv"));
        assert_eq!(told, "connect=ECONNREFUSED recv=ENOTCONN", "{to}");
    }
    shell.begin("toolbox listen [::]:8080 say:hello");
    assert_eq!(shell.line("sleep 1; toolbox tcp 127.0.0.1:8080 line"), "connect=ok line=hello");
    for to in [host.address.each().map(|ip| SocketAddr::new(ip, 8080))].concat() {
        let told = network.world.toolbox(&["tcp", &to.to_string(), "recv"]);
        assert_eq!(told, "connect=ECONNREFUSED recv=ENOTCONN", "{to}");
    }
    shell.end();
}

/// Where neither hooks nor the node's configuration give a network.
fn a_namespace_with_loopback_alone_reaches_nothing(bed: &Bed) {
    bed.configure("[network]\ndeveloper = false\n");
    host_is_the_pod(bed);
    let line = format!(
        "toolbox tcp {}:{SCRIPT} recv; toolbox listen 127.0.0.1:80 say:own >/dev/null & \
         until toolbox tcp 127.0.0.1:80 line | grep line=own; do usleep 20000; done; ip route; ls /sys/class/net",
        SERVER.v4
    );
    let out = bed.run("a").shell(&line).ok();
    assert_eq!(out.text(), "connect=ENETUNREACH recv=ENOTCONN\nconnect=ok line=own\nlo");
}

/// The process of this test that plays the part.
fn io() -> Process {
    let all = Process::below(std::process::id().try_into().unwrap());
    let is_io = |p: &Process| {
        p.program() == "sandbox-vmm" && p.arguments().get(1).is_some_and(|word| word == "io")
    };
    all.into_iter().find(is_io).expect("an io process")
}

/// So that what the CNI, the kernel's counters and limits say of the pod is
/// true of its sockets.
fn the_io_process_is_in_the_pods_namespace_and_cgroup(bed: &Bed) {
    let pod = bed.network().pod();
    let id = bed.run("a").pod(pod).detached(&["sleep", "1000"]);
    let io = io();
    let inode = fs::metadata(io.path("ns/net")).unwrap().ino();
    assert_eq!(inode, pod.namespace.inode(), "namespace of the io process");
    let cgroup = fs::read_to_string(io.path("cgroup")).unwrap();
    assert!(cgroup.contains(&id), "{cgroup} is not the pod's");
    bed.remove(&id);
}

/// At most 3 MiB, beside a pod that has nothing but loopback.
fn the_network_adds_little_to_an_idle_pod(bed: &Bed) {
    const LIMIT: u64 = 3 << 10;
    let resident = || {
        let io = io();
        let part = |name| io.field("smaps_rollup", name).unwrap_or(0);
        part("Pss").saturating_sub(part("Pss_Shmem"))
    };
    bed.configure("[network]\ndeveloper = false\n");
    let id = bed.run("a").detached(&["sleep", "1000"]);
    let without = resident();
    bed.remove(&id);
    let id = bed.run("b").pod(bed.network().pod()).detached(&["sleep", "1000"]);
    let with = resident();
    bed.remove(&id);
    println!("figure: PSS of io: {without} KiB with loopback alone, {with} KiB with a network");
    assert!(with <= without + LIMIT, "{with} KiB, {without} KiB without a network");
}
