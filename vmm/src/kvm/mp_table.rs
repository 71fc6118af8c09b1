//! The MP table: processors and interrupts, for a guest without ACPI.
//! Intel MultiProcessor Specification 1.4, section 4.

use super::layout;

const SPEC_REVISION: u8 = 4;
/// APIC version that Linux takes for an integrated one.
const APIC_VERSION: u8 = 0x14;
const IO_APIC_PINS: u8 = 24;
const ISA_BUS: u8 = 0;
const EVERY_APIC: u8 = 0xff;

/// Type of an interrupt entry, section 4.3.4.
#[derive(Clone, Copy)]
enum Interrupt {
    Vectored = 0,
    NonMaskable = 1,
    External = 3,
}

/// The table for `vcpus` processors, to be placed at [`layout::MP_TABLE`].
pub fn build(vcpus: u8) -> Vec<u8> {
    let mut table = floating_pointer();
    table.extend(configuration(vcpus));
    table
}

/// Section 4.1: where the configuration is, which follows at once.
fn floating_pointer() -> Vec<u8> {
    const LEN: usize = 16;
    let mut pointer = b"_MP_".to_vec();
    pointer.extend((layout::MP_TABLE as u32 + LEN as u32).to_le_bytes());
    pointer.extend([(LEN / 16) as u8, SPEC_REVISION]);
    pointer.resize(LEN, 0);
    pointer[10] = checksum(&pointer);
    pointer
}

/// Section 4.2: a header and the entries.
fn configuration(vcpus: u8) -> Vec<u8> {
    // APIC ids go from 0; the I/O APIC takes the one after the processors.
    let io_apic = vcpus;
    let mut entries: Vec<Vec<u8>> = (0..vcpus).map(processor).collect();
    entries.push(isa_bus());
    entries.push(io_apic_entry(io_apic));
    entries.extend((0..IO_APIC_PINS).map(|pin| interrupt(pin, io_apic)));
    entries.push(local_interrupt(Interrupt::External, 0, 0));
    entries.push(local_interrupt(Interrupt::NonMaskable, EVERY_APIC, 1));
    let mut table = header(&entries);
    table.extend(entries.concat());
    table[7] = checksum(&table);
    table
}

fn header(entries: &[Vec<u8>]) -> Vec<u8> {
    const LEN: usize = 44;
    let len = LEN + entries.iter().map(Vec::len).sum::<usize>();
    let mut header = b"PCMP".to_vec();
    header.extend((len as u16).to_le_bytes());
    header.extend([SPEC_REVISION, 0]);
    header.extend(b"SANDBOX MICROVM     ");
    header.extend([0; 6]);
    header.extend((entries.len() as u16).to_le_bytes());
    header.extend(layout::LOCAL_APIC.to_le_bytes());
    header.resize(LEN, 0);
    header
}

/// Section 4.3.1.
fn processor(apic_id: u8) -> Vec<u8> {
    const ENABLED: u8 = 1;
    const BOOT: u8 = 2;
    const SIGNATURE: u32 = 0x600;
    const FEATURES_FPU_APIC: u32 = 0x201;
    let flags = if apic_id == 0 { ENABLED | BOOT } else { ENABLED };
    let mut entry = vec![0, apic_id, APIC_VERSION, flags];
    entry.extend(SIGNATURE.to_le_bytes());
    entry.extend(FEATURES_FPU_APIC.to_le_bytes());
    entry.resize(20, 0);
    entry
}

/// Section 4.3.2.
fn isa_bus() -> Vec<u8> {
    let mut entry = vec![1, ISA_BUS];
    entry.extend(b"ISA   ");
    entry
}

/// Section 4.3.3.
fn io_apic_entry(id: u8) -> Vec<u8> {
    const USABLE: u8 = 1;
    let mut entry = vec![2, id, APIC_VERSION, USABLE];
    entry.extend(layout::IO_APIC.to_le_bytes());
    entry
}

/// Section 4.3.4: polarity and trigger mode are the bus's, for ISA high and
/// edge.
fn interrupt(pin: u8, io_apic: u8) -> Vec<u8> {
    vec![3, Interrupt::Vectored as u8, 0, 0, ISA_BUS, pin, io_apic, pin]
}

/// Section 4.3.5.
fn local_interrupt(kind: Interrupt, apic: u8, pin: u8) -> Vec<u8> {
    vec![4, kind as u8, 0, 0, ISA_BUS, 0, apic, pin]
}

/// The byte that makes the sum of all bytes 0.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use sandbox_vm_spec::MAX_VCPUS;

    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn entries(table: &[u8]) -> Vec<&[u8]> {
        let (mut entries, mut rest) = (Vec::new(), &table[16 + 44..]);
        while !rest.is_empty() {
            let (entry, after) = rest.split_at(if rest[0] == 0 { 20 } else { 8 });
            entries.push(entry);
            rest = after;
        }
        entries
    }

    #[test]
    fn both_checksums_are_zero_and_it_fits_for_every_count() {
        for vcpus in 1..=MAX_VCPUS {
            let table = build(vcpus);
            assert!(layout::MP_TABLE + table.len() as u64 <= 640 << 10);
            assert_eq!(&table[..4], b"_MP_");
            assert_eq!(sum(&table[..16]), 0);
            assert_eq!(&table[16..20], b"PCMP");
            assert_eq!(sum(&table[16..]), 0);
            assert_eq!(usize::from(u16::from_le_bytes([table[20], table[21]])), table.len() - 16);
        }
    }

    #[test]
    fn it_counts_its_entries_and_has_one_boot_processor() {
        for vcpus in 1..=MAX_VCPUS {
            let table = build(vcpus);
            let entries = entries(&table);
            assert_eq!(u16::from_le_bytes([table[50], table[51]]) as usize, entries.len());
            let processors: Vec<_> = entries.iter().filter(|e| e[0] == 0).collect();
            assert_eq!(processors.len(), usize::from(vcpus));
            assert_eq!(processors.iter().filter(|e| e[3] & 2 != 0).count(), 1);
            let ids: Vec<u8> = processors.iter().map(|e| e[1]).collect();
            assert_eq!(ids, (0..vcpus).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_interrupt_of_a_device_reaches_its_pin() {
        let table = build(2);
        for slot in 0..layout::MAX_SLOTS {
            let irq = layout::slot_irq(slot) as u8;
            let routed = entries(&table).iter().any(|e| e[0] == 3 && e[5] == irq && e[7] == irq);
            assert!(routed, "irq {irq}");
        }
    }
}
