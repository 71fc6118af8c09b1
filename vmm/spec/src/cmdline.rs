//! The guest kernel's command line, one for both engines.
//!
//! `deploy/guest/README.md` says what each word costs or saves at boot.

use crate::VmSpec;

/// Words that every guest gets.
///
/// - `console=ttyS0 quiet`: only errors go to the console; each byte on it is
///   an exit to the engine.
/// - `panic=-1`: a panic resets at once, and the engine sees the end.
/// - `rootfstype=ramfs`: the initramfs unpacks faster than into tmpfs.
/// - `swiotlb=noforce`: no 64 MiB of bounce buffers in guests over 4 GiB; no
///   device of ours needs them.
/// - `percpu_alloc=page`: a vCPU's variables take some 170 KiB; by default the
///   kernel clears 2 MiB for each vCPU to cut them from.
/// - `cgroup_no_v1=all`: version 2 alone.
/// - `dummy.numdummies=0`: the kernel makes no `dummy0`; `ip link add type
///   dummy` works all the same.
const COMMON: &str = "console=ttyS0 quiet panic=-1 rootfstype=ramfs swiotlb=noforce \
                      percpu_alloc=page cgroup_no_v1=all dummy.numdummies=0";

/// Who runs the guest, as far as its kernel cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// Our own machine on KVM. `reboot=k`: a reset is a write to the keyboard
    /// controller, so that a triple fault is always a crash.
    Kvm,
    /// QEMU's microvm, perhaps emulated. It has no keyboard controller, so a
    /// reset is a triple fault (`reboot=t`); and without KVM the kernel would
    /// spend a tenth of a second testing a timer that works
    /// (`no_timer_check`).
    Qemu {
        /// Rate of the time stamp counter in kHz (`tsc_early_khz`): without
        /// KVM the guest would measure it, which fails on a busy host. As no
        /// second clock is there to compare it with, it is `tsc=reliable`.
        tsc_khz: Option<u32>,
    },
}

impl Machine {
    fn words(self) -> String {
        match self {
            Self::Kvm => "reboot=k".into(),
            Self::Qemu { tsc_khz: None } => "reboot=t no_timer_check".into(),
            Self::Qemu { tsc_khz: Some(khz) } => {
                format!("reboot=t no_timer_check tsc_early_khz={khz} tsc=reliable")
            }
        }
    }
}

/// The command line for `vm` on `machine`, the words of the spec last. Devices
/// are not in it: QEMU adds its own, the kvm engine adds what it has placed.
pub fn cmdline(machine: Machine, vm: &VmSpec) -> String {
    [COMMON, &machine.words(), vm.cmdline.trim()]
        .into_iter()
        .filter(|s| !s.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests;
