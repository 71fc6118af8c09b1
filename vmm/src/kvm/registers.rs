//! What a boot processor's registers hold when the kernel begins: long mode,
//! flat segments, the first gibibyte mapped one to one. The other processors
//! wait for the start-up interrupt that the kernel sends them.

use kvm_bindings::{Msrs, kvm_fpu, kvm_lapic_state, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout;

/// A vCPU's state was not set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} failed")]
    Kvm { what: &'static str, source: kvm_ioctls::Error },
    #[error("KVM_SET_MSRS failed at MSR {0:#x}")]
    Msr(u32),
    #[error("cannot write the initial page tables into guest memory")]
    Tables(#[from] GuestMemoryError),
}

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// Writes the segment descriptors and page tables that [`boot`] points at.
pub fn write_tables(memory: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
    memory.write_obj(segments().map(|s| descriptor(&s)), GuestAddress(layout::GDT))?;
    memory.write_obj(0u64, GuestAddress(layout::IDT))?;
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    memory.write_obj(layout::PDPT | PRESENT_WRITABLE, GuestAddress(layout::PML4))?;
    memory.write_obj(layout::PD | PRESENT_WRITABLE, GuestAddress(layout::PDPT))?;
    let mut directory = [0u8; 4096];
    for (index, entry) in directory.chunks_exact_mut(8).enumerate() {
        let page = ((index as u64) << 21) | PRESENT_WRITABLE | LARGE;
        entry.copy_from_slice(&page.to_le_bytes());
    }
    memory.write_slice(&directory, GuestAddress(layout::PD))
}

/// Points the boot processor at `entry`, as the 64-bit boot protocol wants:
/// `rsi` is the address of `boot_params`.
pub fn boot(vcpu: &VcpuFd, entry: u64) -> Result<(), Error> {
    let regs = kvm_regs {
        rflags: 2,
        rip: entry,
        rsp: layout::STACK_TOP,
        rbp: layout::STACK_TOP,
        rsi: layout::ZERO_PAGE,
        ..Default::default()
    };
    vcpu.set_regs(&regs).map_err(refused("KVM_SET_REGS"))?;
    long_mode(vcpu)?;
    let fpu = kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() };
    vcpu.set_fpu(&fpu).map_err(refused("KVM_SET_FPU"))
}

/// Long mode over the tables of [`write_tables`].
pub fn long_mode(vcpu: &VcpuFd) -> Result<(), Error> {
    let mut sregs = vcpu.get_sregs().map_err(refused("KVM_GET_SREGS"))?;
    let [_, code, data, task] = segments();
    sregs.gdt.base = layout::GDT;
    sregs.gdt.limit = 4 * 8 - 1;
    sregs.idt.base = layout::IDT;
    sregs.idt.limit = 8 - 1;
    sregs.cs = code;
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = task;
    sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
    sregs.cr3 = layout::PML4;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LME | EFER_LMA;
    vcpu.set_sregs(&sregs).map_err(refused("KVM_SET_SREGS"))
}

/// Memory type and string instructions, as firmware leaves them on every
/// processor.
pub fn msrs(vcpu: &VcpuFd) -> Result<(), Error> {
    const IA32_MISC_ENABLE: u32 = 0x1a0;
    const FAST_STRING: u64 = 1;
    const IA32_MTRR_DEF_TYPE: u32 = 0x2ff;
    const ENABLED_WRITE_BACK: u64 = (1 << 11) | 6;
    let entry = |index, data| kvm_msr_entry { index, data, ..Default::default() };
    let wanted =
        [entry(IA32_MISC_ENABLE, FAST_STRING), entry(IA32_MTRR_DEF_TYPE, ENABLED_WRITE_BACK)];
    let msrs = Msrs::from_entries(&wanted).map_err(|_| Error::Msr(0))?;
    let set = vcpu.set_msrs(&msrs).map_err(refused("KVM_SET_MSRS"))?;
    match wanted.get(set) {
        Some(entry) => Err(Error::Msr(entry.index)),
        None => Ok(()),
    }
}

/// Wires the local APIC as firmware does: the old interrupt controller to
/// LINT0, NMI to LINT1.
pub fn local_apic(vcpu: &VcpuFd) -> Result<(), Error> {
    const LVT_LINT0: usize = 0x350;
    const LVT_LINT1: usize = 0x360;
    const MODE_NMI: u32 = 4;
    const MODE_EXTINT: u32 = 7;
    let mut apic = vcpu.get_lapic().map_err(refused("KVM_GET_LAPIC"))?;
    set_mode(&mut apic, LVT_LINT0, MODE_EXTINT);
    set_mode(&mut apic, LVT_LINT1, MODE_NMI);
    vcpu.set_lapic(&apic).map_err(refused("KVM_SET_LAPIC"))
}

/// Sets the delivery mode, bits 8 to 10, of the entry at `offset`.
fn set_mode(apic: &mut kvm_lapic_state, offset: usize, mode: u32) {
    let low = apic.regs[offset] as u8;
    let high = ((apic.regs[offset + 1] as u8) & !7) | mode as u8;
    apic.regs[offset] = low as _;
    apic.regs[offset + 1] = high as _;
}

fn refused(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |source| Error::Kvm { what, source }
}

/// Null, code, data and task state, in the order of the descriptor table.
fn segments() -> [kvm_segment; 4] {
    const CODE_EXECUTE_READ: u8 = 11;
    const DATA_READ_WRITE: u8 = 3;
    const TASK_BUSY: u8 = 11;
    let flat = |index: u16, type_, long| kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector: index * 8,
        type_,
        present: 1,
        db: 1 - long,
        s: 1,
        l: long,
        g: 1,
        ..Default::default()
    };
    let task = kvm_segment { s: 0, db: 0, ..flat(3, TASK_BUSY, 0) };
    [kvm_segment::default(), flat(1, CODE_EXECUTE_READ, 1), flat(2, DATA_READ_WRITE, 0), task]
}

/// A segment as the processor reads it from the table (Intel SDM volume 3,
/// section 3.4.5).
fn descriptor(segment: &kvm_segment) -> u64 {
    let flags = u64::from(segment.type_)
        | u64::from(segment.s) << 4
        | u64::from(segment.dpl) << 5
        | u64::from(segment.present) << 7
        | u64::from(segment.l) << 13
        | u64::from(segment.db) << 14
        | u64::from(segment.g) << 15;
    let limit = if segment.g == 1 { segment.limit >> 12 } else { segment.limit };
    let limit = u64::from(limit);
    (limit & 0xffff) | (flags << 40) | ((limit >> 16 & 0xf) << 48)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_those_of_linux_boot() {
        let [null, code, data, _] = segments().map(|s| descriptor(&s));
        assert_eq!(null, 0);
        assert_eq!(code, 0x00af_9b00_0000_ffff);
        assert_eq!(data, 0x00cf_9300_0000_ffff);
    }
}
