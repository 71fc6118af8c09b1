//! Where everything is in the guest's physical address space.
//!
//! Memory fills [0, [`HOLE_START`]) and goes on at [`HOLE_END`]; the hole
//! holds the local and I/O APICs, the pages that KVM needs for itself and the
//! registers of the virtio devices.

/// First address of the hole: guests over 3 GiB have the rest above 4 GiB.
pub const HOLE_START: u64 = 0xC000_0000;
/// First address above the hole.
pub const HOLE_END: u64 = 1 << 32;

/// Registers of the first virtio device; each has a page.
pub const SLOTS_START: u64 = 0xD000_0000;
/// Size of a device's registers.
pub const SLOT_SIZE: u64 = 0x1000;
/// Interrupt of the first device: above the timer, the cascade and the serial
/// port; the I/O APIC has 24 pins.
pub const FIRST_IRQ: u32 = 5;
/// Most devices: one I/O APIC pin each.
pub const MAX_SLOTS: usize = 16;

/// A page that Intel's KVM runs real mode from.
pub const IDENTITY_MAP: u64 = 0xFFFB_C000;
/// Three pages that Intel's KVM keeps a task state segment in.
pub const TSS: usize = 0xFFFB_D000;
/// Default address of the local APICs.
pub const LOCAL_APIC: u32 = 0xFEE0_0000;
/// Default address of the I/O APIC.
pub const IO_APIC: u32 = 0xFEC0_0000;

/// Global descriptor table that the guest starts with.
pub const GDT: u64 = 0x500;
/// Interrupt descriptor table that the guest starts with: empty.
pub const IDT: u64 = 0x520;
/// `boot_params`, "the zero page".
pub const ZERO_PAGE: u64 = 0x7000;
/// Stack that the guest starts with, growing down.
pub const STACK_TOP: u64 = 0x8ff0;
/// Page tables that the guest starts with: one page each.
pub const PML4: u64 = 0x9000;
pub const PDPT: u64 = 0xA000;
pub const PD: u64 = 0xB000;
pub const CMDLINE: u64 = 0x2_0000;
/// Bytes that x86 Linux reads of it, the final zero included (COMMAND_LINE_SIZE).
pub const CMDLINE_SIZE: usize = 2048;
/// MP table: the last kibibyte below 640 KiB is where Linux looks first.
pub const MP_TABLE: u64 = 0x9_FC00;
/// Memory from here on is the kernel's.
pub const HIGH_MEMORY: u64 = 0x10_0000;

/// Guest physical memory: `len` bytes at `start`, which are those at `offset`
/// of the memory file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: u64,
    pub len: u64,
    /// Offset in the memory file.
    pub offset: u64,
}

/// The ranges that `bytes` of memory fill, around the hole.
pub fn ranges(bytes: u64) -> Vec<Range> {
    let low = bytes.min(HOLE_START);
    let mut ranges = vec![Range { start: 0, len: low, offset: 0 }];
    if bytes > low {
        ranges.push(Range { start: HOLE_END, len: bytes - low, offset: low });
    }
    ranges
}

/// Address of the registers of device `slot`.
pub fn slot_address(slot: usize) -> u64 {
    SLOTS_START + slot as u64 * SLOT_SIZE
}

/// Interrupt of device `slot`.
pub fn slot_irq(slot: usize) -> u32 {
    FIRST_IRQ + slot as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn end(range: &Range) -> u64 {
        range.start + range.len
    }

    #[test]
    fn memory_below_the_hole_is_one_range() {
        for bytes in [64 * MIB, 128 * MIB, 3 * GIB - MIB, 3 * GIB] {
            assert_eq!(ranges(bytes), [Range { start: 0, len: bytes, offset: 0 }]);
        }
    }

    #[test]
    fn memory_over_three_gib_goes_on_above_four() {
        for bytes in [3 * GIB + MIB, 4 * GIB, 4 * GIB + MIB, 64 * GIB, 1024 * GIB] {
            let ranges = ranges(bytes);
            assert_eq!(ranges.len(), 2);
            assert_eq!(end(&ranges[0]), HOLE_START);
            assert_eq!(ranges[1].start, HOLE_END);
            assert_eq!(ranges[1].offset, ranges[0].len);
            assert_eq!(ranges.iter().map(|r| r.len).sum::<u64>(), bytes);
        }
    }

    #[test]
    fn everything_fixed_is_in_the_hole() {
        let last = slot_address(MAX_SLOTS - 1) + SLOT_SIZE;
        assert!(SLOTS_START >= HOLE_START && last < u64::from(IO_APIC));
        assert!(slot_irq(MAX_SLOTS - 1) < 24);
        assert!(IDENTITY_MAP + 0x1000 <= TSS as u64 && TSS as u64 + 0x3000 <= HOLE_END);
    }
}
