#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn the_command_line_announces_every_device() {
    let vm = VmSpec { vcpus: 1, memory_mib: 128, cmdline: "one=two".into() };
    let line = command_line(&vm, 2);
    assert!(line.contains("reboot=k"));
    assert!(line.ends_with(
        "one=two virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6"
    ));
    let longest = "x".repeat(1024);
    let longest = command_line(&VmSpec { cmdline: longest, ..vm }, layout::MAX_SLOTS);
    assert!(longest.len() < layout::CMDLINE_SIZE, "{}", longest.len());
}
