//! How long a machine takes from the exec of its first process until its agent
//! is connected to the host: ours on both engines, and Firecracker's where
//! `FIRECRACKER` names one, all with the same kernel and initramfs.
//!
//! `NAME=value` arguments: `VMM`, `GUEST` (folder of vmlinux and
//! initramfs.cpio), `BOOTS`, `VCPUS`, `MEMORY` in MiB, `CASE` (part of a name),
//! `CMDLINE` (words for the kernel). With `CONSOLE=yes` the consoles are shown.
#![allow(clippy::print_stdout)]

mod figure;
mod firecracker;
mod sandbox;
mod watch;

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use figure::{Boot, Case};
use sandbox::Engine;

/// What is measured, and how often.
struct Plan {
    vmm: PathBuf,
    guest: Guest,
    boots: usize,
    case: String,
}

/// The machine that every case boots.
struct Guest {
    vmlinux: PathBuf,
    initramfs: PathBuf,
    vcpus: u8,
    memory_mib: u32,
    /// Appended to the kernel's command line.
    cmdline: String,
    /// Whether to show what the console says, on stderr.
    console: bool,
}

fn main() -> Result<()> {
    let plan = Plan::from_arguments()?;
    let mut cases = Vec::new();
    plan.run(&mut cases, "kvm/agent-ready", || sandbox::boot(Engine::Kvm, &plan.vmm, &plan.guest))?;
    plan.run(&mut cases, "qemu-microvm/agent-ready", || {
        sandbox::boot(Engine::QemuOnKvm, &plan.vmm, &plan.guest)
    })?;
    if let Some(binary) = env::var_os("FIRECRACKER") {
        let binary = PathBuf::from(binary);
        plan.run(&mut cases, "firecracker/agent-ready", || {
            firecracker::boot(&binary, &plan.guest)
        })?;
    }
    if cases.is_empty() {
        bail!("no case has {:?} in its name", plan.case);
    }
    print!("{}", figure::table(&cases));
    for line in figure::lines("boot", &cases) {
        println!("{line}");
    }
    Ok(())
}

impl Plan {
    fn from_arguments() -> Result<Self> {
        let named = |name: &str| {
            let prefix = format!("{name}=");
            env::args()
                .skip(1)
                .filter_map(|a| a.strip_prefix(&prefix).map(str::to_owned))
                .next_back()
        };
        let guest = PathBuf::from(named("GUEST").unwrap_or_else(|| "build/guest".to_owned()));
        let number = |text: Option<String>, default: u32| {
            text.map_or(Ok(default), |t| t.parse().with_context(|| format!("{t:?} is no number")))
        };
        Ok(Self {
            vmm: named("VMM").unwrap_or_else(|| "target/release/sandbox-vmm".to_owned()).into(),
            boots: usize::try_from(number(named("BOOTS"), 5)?)?.max(1),
            case: named("CASE").unwrap_or_default(),
            guest: Guest {
                vmlinux: guest.join("vmlinux"),
                initramfs: guest.join("initramfs.cpio"),
                vcpus: u8::try_from(number(named("VCPUS"), 1)?)?,
                memory_mib: number(named("MEMORY"), 128)?,
                cmdline: named("CMDLINE").unwrap_or_default(),
                console: named("CONSOLE").is_some_and(|value| value == "yes"),
            },
        })
    }

    /// Boots a case as often as asked, once more before to warm the caches.
    fn run(
        &self,
        cases: &mut Vec<Case>,
        name: &str,
        boot: impl Fn() -> Result<Boot>,
    ) -> Result<()> {
        if !name.contains(&self.case) {
            return Ok(());
        }
        let boots = (0..=self.boots).map(|_| boot()).skip(1).collect::<Result<Vec<_>>>();
        cases.push(Case { name: name.to_owned(), boots: boots.with_context(|| name.to_owned())? });
        Ok(())
    }
}
