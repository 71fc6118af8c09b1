//! The guest kernel's command line.

/// Words that every guest gets, on both engines.
///
/// - `console=ttyS0`: early and late messages go to the console log.
/// - `panic=-1`: a panic resets the machine at once, which the engine sees.
/// - `quiet loglevel=1`: a line on the serial port costs an exit a byte.
pub const BASE: &str = "console=ttyS0 panic=-1 quiet loglevel=1 random.trust_cpu=on";

/// Words of the kvm engine: a reset goes through the keyboard controller, and
/// there is nothing to probe behind it.
pub const KVM: &str = "reboot=k i8042.noaux i8042.nomux i8042.dumbkbd";

/// A virtio-mmio device for the command line: its registers fill a page at
/// `address`, its interrupt is `irq`.
pub fn virtio_mmio(address: u64, irq: u32) -> String {
    format!("virtio_mmio.device=4K@{address:#x}:{irq}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_announced_as_linux_reads_them() {
        assert_eq!(virtio_mmio(0xd000_1000, 6), "virtio_mmio.device=4K@0xd0001000:6");
    }
}
