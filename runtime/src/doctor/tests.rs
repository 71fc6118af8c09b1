#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

/// A made-up host.
struct Made {
    dir: TempDir,
}

impl Made {
    fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Everything is there.
    fn whole() -> Self {
        let made = Self::empty();
        for (path, text) in [
            ("usr/lib/sandbox/vmlinux", "kernel"),
            ("usr/lib/sandbox/initramfs.cpio", "initramfs"),
            ("proc/filesystems", "nodev\tproc\nnodev\toverlay\n\text4\n"),
            ("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable:    4194304 kB\n"),
            ("proc/1/comm", "systemd\n"),
            ("proc/77/comm", "containerd\n"),
            ("proc/77/cmdline", "/usr/bin/containerd\0--log-level\0info\0"),
            ("proc/77/environ", "HOME=/\0PATH=/opt/bin:/usr/bin\0"),
            ("proc/self-made", ""),
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n"),
            ("run/containerd/containerd.sock", ""),
        ] {
            made.write(path, text);
        }
        made.script("usr/bin/containerd", "echo containerd x/containerd 1.6.20~ds1 abc");
        made.script("opt/bin/containerd-shim-sandbox-v1", "true");
        made.script("usr/lib/sandbox/sandbox-vmm", "true");
        made.manifest(&sha(b"kernel"), &sha(b"initramfs"));
        made
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn script(&self, path: &str, line: &str) {
        self.write(path, &format!("#!/bin/sh\n{line}\n"));
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn manifest(&self, kernel: &str, initramfs: &str) {
        let json = serde_json::json!({
            "vmlinux": { "sha256": kernel, "release": "6.12.1", "bytes": 6 },
            "initramfs.cpio": { "sha256": initramfs },
        });
        self.write("usr/lib/sandbox/manifest.json", &json.to_string());
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    fn report(&self) -> Report {
        self.report_with(Ok(("qemu".into(), "no /dev/kvm".into())))
    }

    fn report_with(&self, engine: EngineVerdict) -> Report {
        let host = Host::below(self.dir.path(), true);
        examine(&host, Ok(Config::default()), |_| engine)
    }
}

fn sha(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn found(report: &Report, name: &str) -> (Level, String) {
    let check = report.check(name).unwrap_or_else(|| panic!("no check {name}"));
    (check.level, check.detail.clone())
}

/// The finding is bad, its words hold `words`, and it says how to mend it.
#[track_caller]
fn bad(report: &Report, name: &str, level: Level, words: &str) {
    let check = report.check(name).unwrap_or_else(|| panic!("no check {name}"));
    assert_eq!(check.level, level, "{check:?}");
    assert!(check.detail.contains(words), "{check:?}");
    assert!(check.fix.is_some(), "{check:?}");
    assert_eq!(report.is_ready(), level != Level::Missing);
}

#[test]
fn a_host_with_everything_is_ready() {
    let report = Made::whole().report();
    let not_ok: Vec<_> = report.checks.iter().filter(|c| c.level != Level::Ok).collect();
    assert!(not_ok.is_empty(), "{not_ok:?}");
    assert!(report.is_ready());
    assert_eq!(found(&report, "engine").1, "qemu: no /dev/kvm");
    assert_eq!(found(&report, "containerd").1, "1.6.20~ds1, /usr/bin/containerd");
    assert_eq!(found(&report, "shim").1, "/opt/bin/containerd-shim-sandbox-v1");
    assert!(found(&report, "guest kernel").1.contains("6.12.1"));
    assert_eq!(report.check("guest kernel").unwrap().facts["sha256"], sha(b"kernel"));
}

#[test]
fn an_empty_host_is_told_what_it_lacks() {
    let report = Made::empty().report_with(Err("kvm: none; qemu: none".into()));
    assert!(!report.is_ready());
    for name in ["engine", "vmm", "guest kernel", "guest initramfs", "containerd", "shim"] {
        let check = report.check(name).unwrap();
        assert_eq!(check.level, Level::Missing, "{name}");
        assert!(check.fix.is_some(), "{name}");
    }
    let fix = |name| report.check(name).unwrap().fix.clone().unwrap();
    assert_eq!(fix("engine"), "apt-get install -y qemu-system-x86");
    assert_eq!(fix("containerd"), "apt-get install -y containerd");
}

#[test]
fn an_image_that_is_not_as_built_is_found() {
    let made = Made::whole();
    made.write("usr/lib/sandbox/initramfs.cpio", "tampered");
    bad(&made.report(), "guest initramfs", Level::Missing, "not as it was built");
    made.remove("usr/lib/sandbox/initramfs.cpio");
    bad(&made.report(), "guest initramfs", Level::Missing, "/usr/lib/sandbox/initramfs.cpio");
}

#[test]
fn an_image_without_a_usable_manifest_is_doubtful() {
    let made = Made::whole();
    for manifest in ["{", r#"{"vmlinux":7}"#, "{}"] {
        made.write("usr/lib/sandbox/manifest.json", manifest);
        bad(&made.report(), "guest kernel", Level::Warning, "manifest.json");
    }
    made.remove("usr/lib/sandbox/manifest.json");
    bad(&made.report(), "guest kernel", Level::Warning, "manifest.json");
}

#[test]
fn an_old_or_silent_containerd_is_found() {
    let made = Made::whole();
    made.script("usr/bin/containerd", "echo containerd x 1.5.9 abc");
    bad(&made.report(), "containerd", Level::Missing, "1.6 or later");
    made.script("usr/bin/containerd", "echo containerd github.com/x/v2 v2.4.2 abc");
    assert_eq!(found(&made.report(), "containerd").1, "2.4.2, /usr/bin/containerd");
    made.script("usr/bin/containerd", "exit 3");
    assert_eq!(found(&made.report(), "containerd").0, Level::Warning);
}

#[test]
fn the_shim_must_be_where_that_containerd_looks() {
    let made = Made::whole();
    made.write("proc/77/environ", "PATH=/usr/bin\0");
    bad(&made.report(), "shim", Level::Missing, "/usr/bin");
    made.script("usr/bin/containerd-shim-sandbox-v1", "true");
    assert_eq!(found(&made.report(), "shim").0, Level::Ok);
    // Beside containerd's binary, outside of its PATH.
    made.write("proc/77/environ", "PATH=/nowhere\0");
    assert_eq!(found(&made.report(), "shim").1, "/usr/bin/containerd-shim-sandbox-v1");
    // Not executable is not there.
    made.write("usr/bin/containerd-shim-sandbox-v1", "text");
    let path = made.path("usr/bin/containerd-shim-sandbox-v1");
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(found(&made.report(), "shim").0, Level::Missing);
}

#[test]
fn a_containerd_that_does_not_run_is_a_warning() {
    let made = Made::whole();
    made.remove("proc/77/comm");
    made.script("usr/bin/containerd-shim-sandbox-v1", "true");
    bad(&made.report(), "containerd service", Level::Warning, "does not run");
    assert_eq!(found(&made.report(), "containerd").0, Level::Ok);
}

#[test]
fn nerdctl_has_another_name_for_the_runtime() {
    let made = Made::whole();
    assert!(made.report().check("nerdctl").is_none());
    made.script("usr/bin/nerdctl", "true");
    let words = "/usr/bin/nerdctl: run sandboxes with --runtime io.containerd.sandbox.v1";
    assert_eq!(found(&made.report(), "nerdctl"), (Level::Ok, words.to_owned()));
}

#[test]
fn what_the_kernel_lacks_is_a_warning() {
    let made = Made::whole();
    made.write("proc/filesystems", "nodev\tproc\nnodev\toverlayish\n");
    bad(&made.report(), "overlayfs", Level::Warning, "overlayfs");
    made.write("proc/meminfo", "MemAvailable: 102400 kB\n");
    assert_eq!(found(&made.report(), "memory").0, Level::Warning);
    made.remove("sys/fs/cgroup/cgroup.controllers");
    assert_eq!(found(&made.report(), "cgroup").0, Level::Warning);
    made.write("sys/fs/cgroup/memory/tasks", "");
    assert_eq!(made.report().check("cgroup").unwrap().facts["version"], "1");
}

#[test]
fn a_broken_configuration_is_named_and_the_rest_is_checked() {
    let made = Made::whole();
    let file = made.path("config.toml");
    fs::write(&file, "engin = \"kvm\"").unwrap();
    let host = Host::below(made.dir.path(), true);
    let report = examine(&host, Config::from_file(&file), |_| Err("none".into()));
    let (level, words) = found(&report, "configuration");
    assert_eq!(level, Level::Missing);
    assert!(words.contains("engin"), "{words}");
    assert_eq!(found(&report, "guest kernel").0, Level::Ok);
}

#[test]
fn others_than_root_are_told_so() {
    let made = Made::whole();
    let host = Host::below(made.dir.path(), false);
    let report = examine(&host, Ok(Config::default()), |_| Ok(("kvm".into(), "fast".into())));
    bad(&report, "user", Level::Warning, "not root");
}

#[test]
fn words_for_people_and_json_for_programs() {
    let made = Made::whole();
    made.remove("usr/lib/sandbox/sandbox-vmm");
    let report = made.report();
    let text = report.text();
    assert!(text.contains("missing  vmm "), "{text}");
    assert!(text.contains("run: make install\n"), "{text}");
    assert!(text.ends_with("Sandboxes cannot run here: see what is missing above.\n"));
    let json = report.json();
    assert_eq!(json["ready"], false);
    let vmm = json["checks"].as_array().unwrap().iter().find(|c| c["name"] == "vmm").unwrap();
    assert_eq!(vmm["level"], "missing");
    assert_eq!(vmm["fix"], "make install");
    assert!(Made::whole().report().text().ends_with("Sandboxes can run here.\n"));
}

#[test]
fn the_network_that_a_pod_would_get_is_told() {
    let made = Made::whole();
    let report = made.report();
    let (level, words) = found(&report, "network");
    assert_eq!(level, Level::Ok);
    assert!(
        words.contains("10.0.2.15/24") && words.contains("host's network is refused"),
        "{words}"
    );
    assert!(found(&report, "node policy").1.contains("policy.toml is not there: sandboxes reach"));

    made.write("etc/sandbox/policy.toml", "version = 1\n");
    made.write("etc/sandbox/policies/web.toml", "version = 1\n");
    let report = made.report();
    assert_eq!(found(&report, "node policy").1, "/etc/sandbox/policy.toml: 0 rules");
    assert!(found(&report, "policies").1.contains("pods may name web, from /etc/sandbox/policies"));

    made.write("etc/sandbox/policies/web.toml", "version = 1\nx = 1\n");
    bad(&made.report(), "policy", Level::Warning, "web.toml: line 2: x");
    // No pod gets a network, so none can run.
    made.write("etc/sandbox/policy.toml", "nonsense\n");
    bad(&made.report(), "node policy", Level::Missing, "policy.toml: line 1");
}
