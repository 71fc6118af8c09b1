//! What a host has of what sandboxes need, and how to get what it lacks.

mod containerd;
mod host;
mod image;
mod kernel;
mod network;
mod report;

use std::path::Path;

use crate::config::{Config, ConfigError};

pub use host::Host;
pub use report::{Check, Level, Report};

#[cfg(test)]
mod tests;

/// Where the files are that `make install` puts in place.
const INSTALL: &str = "make install";

/// The engine that would run: its name and why it is chosen, or why none can.
pub type EngineVerdict = Result<(String, String), String>;

/// Looks at everything. `engine` decides with a configuration that is valid;
/// it is an argument because it starts programs.
pub fn examine(
    host: &Host,
    config: Result<Config, ConfigError>,
    engine: impl FnOnce(&Config) -> EngineVerdict,
) -> Report {
    let mut report = Report::default();
    report.add(privileges(host));
    report.add(configuration(&config));
    // The rest is of use even where the configuration is broken.
    let config = config.unwrap_or_default();
    report.add(engine_check(engine(&config)));
    report.add(vmm(host, &config.vmm));
    report.extend(image::checks(host, &config));
    report.extend(containerd::checks(host));
    report.extend(containerd::nerdctl(host));
    report.extend(kernel::checks(host, &config));
    report.extend(network::checks(host, &config));
    report
}

fn privileges(host: &Host) -> Check {
    if host.is_root() {
        Check::ok("user", "root")
    } else {
        Check::warning("user", "not root: what only root can see is not checked")
            .fix("sudo sandboxctl doctor")
    }
}

fn configuration(config: &Result<Config, ConfigError>) -> Check {
    match config {
        Ok(config) => {
            let engine = format!("{:?}", config.engine).to_lowercase();
            let words = format!(
                "engine = {engine}, {} vCPUs and {} MiB for each sandbox, state in {}",
                config.vm.vcpus,
                config.vm.memory_mib,
                config.state_dir.display()
            );
            Check::ok("configuration", words)
                .fact("engine", &engine)
                .fact("state_dir", &config.state_dir.display().to_string())
        }
        Err(error) => Check::missing("configuration", crate::failure::chain(error)),
    }
}

fn engine_check(verdict: EngineVerdict) -> Check {
    match verdict {
        Ok((name, reason)) => Check::ok("engine", format!("{name}: {reason}"))
            .fact("name", &name)
            .fact("reason", &reason),
        Err(reason) => Check::missing("engine", reason).fix("apt-get install -y qemu-system-x86"),
    }
}

fn vmm(host: &Host, path: &Path) -> Check {
    let words = path.display().to_string();
    if host.is_executable(path) {
        Check::ok("vmm", &words).fact("path", &words)
    } else {
        Check::missing("vmm", format!("{words} is not there or not executable")).fix(INSTALL)
    }
}
