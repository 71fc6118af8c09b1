use std::path::{Path, PathBuf};

use super::{Check, Host, INSTALL};

/// The program that containerd runs for `io.sandbox.v1`.
const SHIM: &str = "containerd-shim-sandbox-v1";
/// The name for nerdctl, which takes a name outside of `io.containerd.` for a
/// program like runc. containerd runs the same shim for both.
const NAME_FOR_NERDCTL: &str = "io.containerd.sandbox.v1";
const SOCKET: &str = "/run/containerd/containerd.sock";
/// Oldest that is tested.
const OLDEST: (u32, u32) = (1, 6);
const INSTALL_CONTAINERD: &str = "apt-get install -y containerd";

struct Running {
    program: PathBuf,
    /// Its `PATH`, where it may be read.
    path: Option<String>,
}

/// containerd, whether it runs, and whether it finds the shim.
pub(super) fn checks(host: &Host) -> Vec<Check> {
    let running = running(host);
    let installed = running
        .as_ref()
        .map(|process| process.program.clone())
        .or_else(|| host.find("containerd", None));
    let Some(program) = installed else {
        let check = Check::missing("containerd", "there is none").fix(INSTALL_CONTAINERD);
        return vec![check, shim(host, None, None)];
    };
    let path = running.as_ref().and_then(|process| process.path.as_deref());
    vec![
        version(host, &program),
        service(host, running.is_some()),
        shim(host, Some(&program), path),
    ]
}

fn version(host: &Host, program: &Path) -> Check {
    let shown = program.display().to_string();
    let output = host.output(program, &["--version"]).unwrap_or_default();
    let version = output.split_whitespace().find_map(numbers);
    let Some((version, major, minor)) = version else {
        return Check::warning("containerd", format!("{shown} does not tell its version"))
            .fact("path", &shown);
    };
    let check = if (major, minor) < OLDEST {
        let (major, minor) = OLDEST;
        let words = format!("{version}, {shown}: sandboxes need {major}.{minor} or later");
        Check::missing("containerd", words).fix(INSTALL_CONTAINERD)
    } else {
        Check::ok("containerd", format!("{version}, {shown}"))
    };
    check.fact("path", &shown).fact("version", &version)
}

/// `1.6.20~ds1` or `v2.1.4` with its first two numbers.
fn numbers(word: &str) -> Option<(String, u32, u32)> {
    let word = word.strip_prefix('v').unwrap_or(word);
    let mut parts = word.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some((word.to_owned(), major, minor))
}

fn service(host: &Host, is_running: bool) -> Check {
    match (is_running, host.exists(SOCKET)) {
        (true, true) => Check::ok("containerd service", format!("serves {SOCKET}")),
        (true, false) => {
            Check::ok("containerd service", format!("runs, with another socket than {SOCKET}"))
        }
        (false, _) => Check::warning("containerd service", "does not run")
            .fix("systemctl enable --now containerd"),
    }
}

/// None where nerdctl is not installed.
pub(super) fn nerdctl(host: &Host) -> Option<Check> {
    let path = host.find("nerdctl", None)?.display().to_string();
    let words = format!("{path}: run sandboxes with --runtime {NAME_FOR_NERDCTL}");
    Some(Check::ok("nerdctl", words).fact("path", &path).fact("runtime", NAME_FOR_NERDCTL))
}

/// containerd looks in its own `PATH`, then beside itself.
fn shim(host: &Host, program: Option<&Path>, path: Option<&str>) -> Check {
    let beside = program.map(|program| program.with_file_name(SHIM));
    let found = host.find(SHIM, path).or_else(|| beside.filter(|file| host.is_executable(file)));
    match found {
        Some(file) => {
            let shown = file.display().to_string();
            Check::ok("shim", &shown).fact("path", &shown)
        }
        None => {
            let wherein = path.map_or_else(String::new, |path| format!(" ({path})"));
            let words = format!("{SHIM} is not where containerd looks: in its PATH{wherein}");
            Check::missing("shim", words).fix(INSTALL)
        }
    }
}

/// The containerd of the system, or else any.
fn running(host: &Host) -> Option<Running> {
    let names = host.names("/proc");
    let mut pids: Vec<u32> = names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids.into_iter().find_map(|pid| process(host, pid))
}

fn process(host: &Host, pid: u32) -> Option<Running> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    if host.read(&proc.join("comm")).ok()?.trim() != "containerd" {
        return None;
    }
    let cmdline = host.read(&proc.join("cmdline")).ok()?;
    let first = cmdline.split('\0').next().unwrap_or_default();
    let environ = host.read(&proc.join("environ")).ok();
    let path = environ.and_then(|environ| {
        environ.split('\0').find_map(|line| line.strip_prefix("PATH=").map(str::to_owned))
    });
    let program = if first.starts_with('/') {
        first.into()
    } else {
        host.find("containerd", path.as_deref())?
    };
    Some(Running { program, path })
}
