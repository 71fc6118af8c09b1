use std::ffi::OsString;
use std::os::fd::RawFd;

use sandbox_vm_spec::VmSpec;
use sandbox_vm_spec::cmdline::{Machine, cmdline};
use sandbox_vm_spec::devices::{DeviceKind, DeviceSpec, QemuLink};
use sandbox_vm_spec::network::LinkSpec;

use super::{Error, OWN_FDS};

pub struct Arguments<'a> {
    pub vm: &'a VmSpec,
    /// What runs its CPUs.
    pub accelerator: Accelerator,
    /// Rate of the guest's time stamp counter in kHz, if QEMU must pass it.
    pub tsc_khz: Option<u32>,
    /// Path of the kernel.
    pub kernel: String,
    /// Path of the initramfs.
    pub initramfs: String,
    pub devices: Vec<(DeviceKind, RawFd)>,
    /// Tag of the share.
    pub tag: &'a str,
    /// The link of the net device.
    pub link: Option<LinkSpec>,
}

/// What runs the guest's CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    Tcg,
    /// `/dev/kvm`.
    Kvm,
}

impl Accelerator {
    /// By the name in the launch message.
    pub fn named(name: &str) -> Result<Self, Error> {
        match name {
            "tcg" => Ok(Self::Tcg),
            "kvm" => Ok(Self::Kvm),
            other => Err(Error::Accelerator(other.to_owned())),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

/// A tag that QEMU does not read further options from.
pub fn checked_tag(tag: &str) -> Result<&str, Error> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if tag.is_empty() || !tag.bytes().all(fine) {
        return Err(Error::Tag(tag.to_owned()));
    }
    Ok(tag)
}

impl Arguments<'_> {
    /// The command line, without the program.
    pub fn list(&self) -> Vec<OsString> {
        let mib = self.vm.memory_mib;
        let mut list: Vec<String> = Vec::new();
        let mut option = |name: &str, value: String| list.extend([name.to_owned(), value]);
        option("-machine", "microvm,x-option-roms=off,rtc=on,acpi=off,memory-backend=mem".into());
        option("-object", format!("memory-backend-memfd,id=mem,size={mib}M,share=on"));
        option("-m", format!("{mib}M"));
        option("-accel", self.accelerator.words().into());
        option("-cpu", "max".into());
        option("-smp", self.vm.vcpus.to_string());
        option("-display", "none".into());
        option("-chardev", "stdio,id=console,signal=off".into());
        option("-serial", "chardev:console".into());
        option("-global", "virtio-mmio.force-legacy=false".into());
        option("-kernel", self.kernel.clone());
        option("-initrd", self.initramfs.clone());
        option("-append", cmdline(Machine::Qemu { tsc_khz: self.tsc_khz }, self.vm));
        option("-sandbox", SANDBOX.into());
        for (index, (kind, socket)) in self.devices.iter().enumerate() {
            let DeviceSpec { qemu_link, qemu_device, .. } = kind.spec();
            let link = match qemu_link {
                QemuLink::Netdev => {
                    let path = format!("{OWN_FDS}/{socket}");
                    option("-chardev", format!("socket,id=backend{index},path={path}"));
                    option("-netdev", format!("vhost-user,id=net{index},chardev=backend{index}"));
                    format!("netdev=net{index}")
                }
                QemuLink::Chardev => {
                    option("-chardev", format!("socket,id=backend{index},fd={socket}"));
                    format!("chardev=backend{index}")
                }
            };
            option("-device", format!("{qemu_device},{link}{}", self.properties(*kind)));
        }
        list.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
        list.into_iter().map(OsString::from).collect()
    }

    /// The properties that differ between pods: QEMU asks no backend for them.
    fn properties(&self, kind: DeviceKind) -> String {
        match (kind, self.link) {
            (DeviceKind::Fs, _) => format!(",tag={}", self.tag),
            (DeviceKind::Net, Some(LinkSpec { mac, mtu })) => {
                let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
                format!(",mac={mac},host_mtu={mtu}")
            }
            _ => String::new(),
        }
    }
}

/// QEMU's seccomp filter, with every denial that it knows.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
