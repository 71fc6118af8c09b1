use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, Spec};

use super::{Context, SpecError};

/// Character devices that mean the same in every Linux.
const EVERYWHERE: &[(i64, i64)] = &[
    (1, 3),    // null
    (1, 5),    // zero
    (1, 7),    // full
    (1, 8),    // random
    (1, 9),    // urandom
    (5, 0),    // tty
    (5, 1),    // console
    (5, 2),    // ptmx
    (10, 200), // net/tun
    (10, 229), // fuse
];

/// A number of the host's names nothing, or something else, in the guest. A
/// privileged container is given every device there is: it gets those that
/// the guest has. One that asks for a device by name is refused.
pub(super) fn transform(spec: &mut Spec, _: &mut Context) -> Result<(), SpecError> {
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let rules = linux.resources().as_ref().and_then(|resources| resources.devices().as_ref());
    let all = rules.is_some_and(|rules| rules.iter().any(allows_all));
    let Some(devices) = linux.devices_mut() else { return Ok(()) };
    if !all && let Some(device) = devices.iter().find(|device| !is_everywhere(device)) {
        return Err(SpecError::Device {
            path: device.path().clone(),
            major: device.major(),
            minor: device.minor(),
        });
    }
    devices.retain(is_everywhere);
    Ok(())
}

fn is_everywhere(device: &LinuxDevice) -> bool {
    let is_char = matches!(device.typ(), LinuxDeviceType::C | LinuxDeviceType::U);
    is_char && EVERYWHERE.contains(&(device.major(), device.minor()))
}

fn allows_all(rule: &LinuxDeviceCgroup) -> bool {
    let any = |number: Option<i64>| number.is_none_or(|n| n < 0);
    let any_kind = rule.typ().is_none_or(|typ| typ == LinuxDeviceType::A);
    let all_ways = rule.access().as_deref().is_none_or(|ways| ways == "rwm");
    rule.allow() && any_kind && any(rule.major()) && any(rule.minor()) && all_ways
}
