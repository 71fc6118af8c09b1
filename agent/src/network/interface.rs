//! Finds the guest's network device, and keeps it from configuring itself.

use std::fs;
use std::io;
use std::path::Path;

/// Where the kernel lists interfaces.
const CLASS: &str = "/sys/class/net";
/// Where the kernel lists virtio devices, and their drivers.
const VIRTIO: &str = "/sys/bus/virtio";
/// The type of a network device in `VIRTIO/devices/*/device`.
const NETWORK: &str = "0x0001";

#[derive(Debug)]
pub struct Interface {
    /// Its number, which stays.
    pub index: u32,
    pub name: String,
}

/// Settings of IPv6 for one interface. There is no router to ask and nobody
/// whose address could be the same; a link-local address comes with the others.
const QUIET: &[(&str, &str)] = &[
    ("accept_ra", "0"),
    ("autoconf", "0"),
    ("accept_dad", "0"),
    ("dad_transmits", "0"),
    ("router_solicitations", "0"),
    // 1: none.
    ("addr_gen_mode", "1"),
];

/// The interfaces of virtio devices, the first one first.
pub fn find() -> io::Result<Vec<Interface>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(CLASS)? {
        let entry = entry?;
        let driver = fs::read_link(entry.path().join("device/driver"));
        if !driver.is_ok_and(|driver| driver.ends_with("virtio_net")) {
            continue;
        }
        let index = fs::read_to_string(entry.path().join("ifindex"))?;
        let index = index.trim().parse().map_err(io::Error::other)?;
        found.push(Interface { index, name: entry.file_name().to_string_lossy().into_owned() });
    }
    found.sort_by_key(|interface| interface.index);
    Ok(found)
}

/// Attaches the driver to the network device, or detaches it. A guest without
/// a network shows no interface but `lo`, as a container of runc does.
pub fn set_attached(attached: bool) -> io::Result<()> {
    let virtio = Path::new(VIRTIO);
    let action = virtio.join("drivers/virtio_net").join(if attached { "bind" } else { "unbind" });
    for entry in fs::read_dir(virtio.join("devices"))? {
        let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        let kind = fs::read_to_string(path.join("device"))?;
        if kind.trim() == NETWORK && path.join("driver").exists() != attached {
            fs::write(&action, name.as_encoded_bytes())?;
        }
    }
    Ok(())
}

/// Lets packets to and from addresses of 127.0.0.0/8 over interface `name`.
pub fn allow_loopback(name: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/sys/net/ipv4/conf").join(name).join("route_localnet"), "1")
}

/// Switches off what the kernel would do by itself on interface `name`.
pub fn make_quiet(name: &str) -> io::Result<()> {
    let dir = Path::new("/proc/sys/net/ipv6/conf").join(name);
    for (setting, value) in QUIET {
        match fs::write(dir.join(setting), value) {
            // There is no IPv6 in the kernel, or none at so small an MTU.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            written => written?,
        }
    }
    Ok(())
}
