//! What the host's side shows to others, and what its processes may.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sandbox_tests::{Bed, Process, Shim, spec, tests};
use serde_json::json;

tests![
    Ours the_live_tree_is_for_root_alone,
    Ours children_have_no_environment_and_few_rights,
    Ours secrets_stay_inside,
    Ours only_the_agent_reaches_the_host_over_vsock,
];

fn sleeping(bed: &Bed, name: &str) -> Shim {
    let shim = bed.shim(name, spec(&["sleep", "1000"]));
    shim.create(&shim.request(bed.rootfs(name))).unwrap();
    shim.rpc().start().unwrap();
    shim
}

fn finish(shim: Shim) {
    shim.rpc().kill(9, true).unwrap();
    shim.rpc().wait().unwrap();
    shim.rpc().delete().unwrap();
    shim.shutdown();
}

/// Where the guest's own files are mounted: their modes are the guest's.
const OF_THE_GUEST: &[&str] = &["share", "tree"];

/// Everything below `dir` that is the sandbox's own.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    for entry in fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir()
            && !OF_THE_GUEST.iter().any(|name| entry.file_name() == *name)
        {
            found.extend(tree(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// R44: folders 0700; sockets, logs and state 0600; all of it root's. Folders of
/// the share, below one that is private, are passed through by the guest's users.
fn the_live_tree_is_for_root_alone(bed: &Bed) {
    let shim = sleeping(bed, "a");
    let tree = tree(&bed.state_dir());
    assert!(tree.iter().any(|path| path.ends_with("console.log")), "{tree:?}");
    assert!(tree.iter().any(|path| path.metadata().unwrap().file_type().is_socket()), "{tree:?}");
    for path in tree {
        let found = path.metadata().unwrap();
        let is_shared = path.iter().any(|part| part == "tree");
        let expected = match found.is_dir() {
            true if is_shared => 0o711,
            true => 0o700,
            // Containers of any user read it, through the share.
            false if path.ends_with("resolv.conf") => 0o644,
            false => 0o600,
        };
        assert_eq!(found.mode() & 0o777, expected, "{}", path.display());
        assert_eq!((found.uid(), found.gid()), (0, 0), "{}", path.display());
    }
    finish(shim);
}

/// Parts of a sandbox beside the shim, by what they are.
fn children(shim: &Shim) -> Vec<(String, Process)> {
    shim.processes()
        .into_iter()
        .filter_map(|process| {
            let arguments = process.arguments();
            let program = process.program();
            if program.starts_with("qemu") {
                return Some(("qemu".to_owned(), process));
            }
            (program == "sandbox-vmm").then(|| (arguments[1].clone(), process))
        })
        .collect()
}

/// R45, R46 in part: no variable of the shim's; no way to new rights; a mount
/// namespace of its own; `io` and `fs` see their folder and nothing else.
fn children_have_no_environment_and_few_rights(bed: &Bed) {
    let shim = sleeping(bed, "a");
    let children = children(&shim);
    let names: BTreeSet<&str> = children.iter().map(|(name, _)| name.as_str()).collect();
    let engine = if names.contains("kvm") { "kvm" } else { "qemu" };
    assert_eq!(names, BTreeSet::from(["io", "fs", engine]));
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    for (name, process) in &children {
        assert_eq!(process.environment(), Vec::<String>::new(), "environment of {name}");
        assert_eq!(process.field("status", "NoNewPrivs"), Some(1), "NoNewPrivs of {name}");
        assert_ne!(fs::read_link(process.path("ns/mnt")).unwrap(), own, "mounts of {name}");
        let host_marker = process.path("root").join(bed.dir().strip_prefix("/").unwrap());
        assert!(!host_marker.exists(), "{name} sees {}", bed.dir().display());
        let capabilities = capabilities(process);
        let allowed: &[u32] = match name.as_str() {
            "fs" => FILE_CAPABILITIES,
            "io" => NETWORK_CAPABILITIES,
            _ => &[],
        };
        let beyond: Vec<_> = capabilities.iter().filter(|bit| !allowed.contains(bit)).collect();
        assert!(beyond.is_empty(), "{name} has capabilities {beyond:?} beyond {allowed:?}");
    }
    finish(shim);
}

/// What the pod's sockets need: NET_BIND_SERVICE for the guest's listeners at
/// low ports, NET_RAW to ping where the namespace permits no other way.
const NETWORK_CAPABILITIES: &[u32] = &[10, 13];

/// What a file server needs to act for any user of the guest: CHOWN,
/// DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETGID, SETUID, MKNOD,
/// SETFCAP; SYS_ADMIN for extended attributes named trusted.
const FILE_CAPABILITIES: &[u32] = &[0, 1, 2, 3, 4, 6, 7, 21, 27, 31];

fn capabilities(process: &Process) -> Vec<u32> {
    let status = fs::read_to_string(process.path("status")).unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let bits = u64::from_str_radix(effective.trim(), 16).unwrap();
    (0..64).filter(|bit| bits >> bit & 1 == 1).collect()
}

/// R53: what the container's environment and arguments hold is in no log, in
/// no command line on the host, and not on the guest kernel's command line.
fn secrets_stay_inside(bed: &Bed) {
    const SECRET: &str = "hunter2-is-no-password";
    let line = format!("cat /proc/cmdline; : {SECRET}; read line");
    let mut spec = spec(&["sh", "-c", &line]);
    spec["process"]["env"] = json!(["PATH=/bin", format!("PASSWORD={SECRET}")]);
    let shim = bed.shim("a", spec);
    let (input, out, err) = (shim.fifo("in"), shim.fifo("out"), shim.fifo("err"));
    let mut request = shim.request(bed.rootfs("a"));
    request.stdin = input.display().to_string();
    request.stdout = out.display().to_string();
    request.stderr = err.display().to_string();
    let (reader, _errors) = (sandbox_tests::open_reader(&out), sandbox_tests::open_reader(&err));
    let _writer = fs::File::options().read(true).write(true).open(&input).unwrap();
    shim.create(&request).unwrap();
    shim.rpc().start().unwrap();
    let cmdline = std::io::BufRead::lines(std::io::BufReader::new(reader)).next().unwrap().unwrap();
    assert!(!cmdline.contains(SECRET), "the guest's /proc/cmdline: {cmdline}");
    for process in shim.processes() {
        assert!(!process.arguments().concat().contains(SECRET), "{:?}", process.arguments());
    }
    let logs = tree(&bed.state_dir()).into_iter().chain([shim.log()]);
    for path in logs.filter(|path| path.is_file()) {
        let bytes = fs::read(&path).unwrap();
        let found = bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
        assert!(!found, "{} holds it", path.display());
    }
    finish(shim);
}

/// R51: from a container, no port of the host answers, the agent's own among
/// them, and no other guest's address.
fn only_the_agent_reaches_the_host_over_vsock(bed: &Bed) {
    let mut lines = String::new();
    for (cid, port) in
        [(2, 1024), (2, 1025), (2, 22), (2, 1), (2, 4_294_967_294_u32), (4, 1025), (0, 1024)]
    {
        lines.push_str(&format!("echo {cid} {port} $(toolbox vsock {cid} {port})\n"));
    }
    let out = bed.run("a").shell(&lines).ok();
    for line in out.text().lines() {
        assert!(line.contains("refused") || line.contains("closed"), "{line}");
    }
    assert_eq!(out.text().lines().count(), 7);
}
