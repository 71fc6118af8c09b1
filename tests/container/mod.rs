//! What the container sees around its process.

use std::fs;

use sandbox_tests::{Bed, mount, spec, tests};
use serde_json::{Value, json};

tests![
    Any a_read_only_root_refuses_writes,
    Any a_root_folder_without_an_image,
    Any what_is_written_stays_in_the_container,
    Any bind_mounts_read_only_and_read_write,
    Any a_bound_file_and_resolv_conf,
    Any tmpfs_has_its_size_and_mode,
    Any seccomp_denies_a_call,
    Any masked_and_read_only_paths,
    Any sysctls_are_set,
    Any proc_sys_and_dev_are_usable,
    Any devices_follow_their_rules,
    Ours hooks_of_the_container_run,
    Any what_the_kernel_shows_can_be_bound,
];

fn a_read_only_root_refuses_writes(bed: &Bed) {
    let out = bed.run("a").flags(&["--read-only"]).shell("touch /file").exits(1);
    assert!(out.errors().contains("Read-only file system"), "{}", out.errors());
}

/// `ctr run --rootfs`: a folder of the host is the container's root.
fn a_root_folder_without_an_image(bed: &Bed) {
    let root = bed.rootfs("a");
    // No image, so no PATH of its own.
    let words = ["/bin/busybox", "sh", "-c", "echo text >/made; /bin/cat /made"];
    let out = bed.run("a").root(&root).foreground(&words).ok();
    assert_eq!(out.text(), "text");
    assert_eq!(fs::read_to_string(root.join("made")).unwrap(), "text\n");
}

/// The same image again knows nothing of what the last container wrote.
fn what_is_written_stays_in_the_container(bed: &Bed) {
    let line = "test ! -e /etc/mark && echo text >/etc/mark && rm /bin/vi && cat /etc/mark";
    for name in ["a", "b"] {
        assert_eq!(bed.run(name).shell(line).ok().text(), "text");
    }
}

fn bind_mounts_read_only_and_read_write(bed: &Bed) {
    let (ro, rw) = (bed.dir().join("ro"), bed.dir().join("rw"));
    for dir in [&ro, &rw] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("from-host"), "host").unwrap();
    }
    let flags = [
        format!("--mount=type=bind,src={},dst=/mnt/ro,options=rbind:ro", ro.display()),
        format!("--mount=type=bind,src={},dst=/mnt/rw,options=rbind:rw", rw.display()),
    ];
    let line = "cat /mnt/ro/from-host /mnt/rw/from-host && echo guest >/mnt/rw/from-guest && \
                chown 1000:1000 /mnt/rw/from-guest && ! touch /mnt/ro/file";
    let out = bed.run("a").flags(&flags).shell(line).ok();
    assert_eq!(out.text(), "hosthost");
    assert!(out.errors().contains("Read-only file system"), "{}", out.errors());
    assert_eq!(fs::read_to_string(rw.join("from-guest")).unwrap(), "guest\n");
    let owner = std::os::unix::fs::MetadataExt::uid(&rw.join("from-guest").metadata().unwrap());
    assert_eq!(owner, 1000, "owner on the host");
    assert!(!ro.join("file").exists());
}

/// As container managers give /etc/resolv.conf and /etc/hosts: single files,
/// and a change on the host is seen.
fn a_bound_file_and_resolv_conf(bed: &Bed) {
    let file = bed.dir().join("resolv.conf");
    fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
    let flag =
        format!("--mount=type=bind,src={},dst=/etc/resolv.conf,options=rbind:ro", file.display());
    let out = bed.run("a").flags(&[flag]).foreground(&["cat", "/etc/resolv.conf"]).ok();
    assert_eq!(out.text(), "nameserver 192.0.2.1");
}

fn tmpfs_has_its_size_and_mode(bed: &Bed) {
    let line = "stat -c %a /scratch; df -k /scratch | tail -1 | awk '{ print $1, $2 }'; \
                dd if=/dev/zero of=/scratch/f bs=1M count=3 2>&1 | grep -o 'No space left'";
    let mut spec = spec(&["sh", "-c", line]);
    let scratch = mount("/scratch", "tmpfs", "tmpfs", &["nosuid", "size=2048k", "mode=750"]);
    spec["mounts"].as_array_mut().unwrap().push(scratch);
    let out = bed.run_spec("a", spec, &[]).ok();
    assert_eq!(out.text().lines().collect::<Vec<_>>(), ["750", "tmpfs 2048", "No space left"]);
}

fn seccomp_denies_a_call(bed: &Bed) {
    let mut spec = spec(&["sh", "-c", "mkdir /tmp/a; touch /tmp/b && echo touched"]);
    spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }]
    });
    let out = bed.run_spec("a", spec, &[]).ok();
    assert_eq!(out.text(), "touched");
    assert!(out.errors().contains("Operation not permitted"), "{}", out.errors());
}

fn masked_and_read_only_paths(bed: &Bed) {
    let line =
        "cat /etc/masked | wc -c; ls /home | wc -l; touch /etc/shut/file; cat /proc/keys | wc -c";
    let mut spec = spec(&["sh", "-c", line]);
    spec["linux"]["maskedPaths"] = json!(["/etc/masked", "/home", "/proc/keys", "/not/there"]);
    spec["linux"]["readonlyPaths"] = json!(["/etc/shut", "/proc/sys", "/not/there"]);
    let root = bed.rootfs("a");
    fs::write(root.join("etc/masked"), "secret").unwrap();
    fs::create_dir(root.join("etc/shut")).unwrap();
    let out = bed.shim("a", spec).run(root, &[]).ok();
    assert_eq!(out.text().lines().collect::<Vec<_>>(), ["0", "0", "0"]);
    assert!(out.errors().contains("Read-only file system"), "{}", out.errors());
}

fn sysctls_are_set(bed: &Bed) {
    let line = "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shm_rmid_forced";
    let mut spec = spec(&["sh", "-c", line]);
    spec["linux"]["sysctl"] =
        json!({ "net.ipv4.ip_default_ttl": "33", "kernel.shm_rmid_forced": "1" });
    let out = bed.run_spec("a", spec, &[]).ok();
    assert_eq!(out.text().lines().collect::<Vec<_>>(), ["33", "1"]);
}

fn proc_sys_and_dev_are_usable(bed: &Bed) {
    let line = "echo x >/dev/null; head -c 16 /dev/urandom | wc -c; head -c 4 /dev/zero | od -An -tx1; \
                test -c /dev/ptmx -o -L /dev/ptmx; ls /dev/pts/ptmx; echo $$; ls -d /sys/kernel; \
                readlink /dev/stdin; echo 3 >/dev/shm/f; cat /dev/shm/f; test -e /dev/kvm || echo no kvm";
    let out = bed.run("a").shell(line).ok();
    let text = out.text();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "16",
            "00 00 00 00",
            "/dev/pts/ptmx",
            "1",
            "/sys/kernel",
            "/proc/self/fd/0",
            "3",
            "no kvm"
        ]
    );
}

/// A node of any device can be made, as under runc; the cgroup's rules say
/// which are opened: those of every container, and what the spec adds.
fn devices_follow_their_rules(bed: &Bed) {
    let line = "mknod /tmp/null c 1 3 && echo x >/tmp/null && echo null; \
                mknod /tmp/console c 4 64 && echo x >/tmp/console; \
                mknod /tmp/hwrng c 10 183 && head -c 4 /tmp/hwrng | wc -c; \
                echo x >/tmp/hwrng";
    let mut spec = spec(&["sh", "-c", line]);
    spec["linux"]["resources"]["devices"] = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 10, "minor": 183, "access": "r" },
    ]);
    let out = bed.run_spec("a", spec, &[]).fails_with(&[
        "can't create /tmp/console: Operation not permitted",
        "can't create /tmp/hwrng: Operation not permitted",
    ]);
    assert_eq!(out.text().lines().map(str::trim).collect::<Vec<_>>(), ["null", "4"]);
}

/// Those of the host's programs see the network's pid and their words are told;
/// that of the container's own program comes just before its process.
fn hooks_of_the_container_run(bed: &Bed) {
    let told = bed.dir().join("told");
    let script = format!("cat >{}", told.display());
    let mut spec = spec(&["sh", "-c", "cat /hooked"]);
    spec["hooks"] = json!({
        "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}],
        "startContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", "cat >/hooked; echo $X >>/hooked"],
             "env": ["X=and this", "PATH=/bin:/usr/bin"]},
        ],
    });
    let out = bed.run_spec("a", spec.clone(), &[]).ok().text();
    let (state, last) = out.trim().rsplit_once('}').unwrap();
    assert_eq!(last, "and this", "{out}");
    let state: Value = serde_json::from_str(&format!("{state}}}")).unwrap();
    assert_eq!(state["id"], bed.id("a"));
    let told: Value = serde_json::from_str(&fs::read_to_string(told).unwrap()).unwrap();
    assert_eq!(told["status"], "creating");
    assert!(told["pid"].as_i64().unwrap() > 0);
    spec["hooks"]["startContainer"][0]["args"][2] = json!("exit 3");
    // As under runc, its process ends before it was its program.
    let failed = bed.run_spec("b", spec.clone(), &[]);
    assert!(failed.code != 0 && failed.stdout.is_empty(), "{}", failed.errors());
    spec["hooks"] = json!({
        "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo not so >&2; exit 1"]}],
    });
    bed.run_spec("c", spec, &[]).fails_with(&["createContainer", "not so"]);
}

/// `-v /sys:/host/sys`, `-v /dev/null:/x`: under a microVM, of its own kernel.
fn what_the_kernel_shows_can_be_bound(bed: &Bed) {
    let bind = |from: &str, to: &str| mount(to, "bind", from, &["rbind", "ro"]);
    let line = "[ -d /host/sys/kernel ] && [ -e /host/proc/version ] && [ -c /null ] && echo so";
    let mut spec = spec(&["sh", "-c", line]);
    let mounts = spec["mounts"].as_array_mut().unwrap();
    mounts.push(bind("/sys", "/host/sys"));
    mounts.push(bind("/proc", "/host/proc"));
    mounts.push(bind("/dev/null", "/null"));
    assert_eq!(bed.run_spec("a", spec, &[]).ok().text().trim(), "so");
}
