//! What the guest's CPUID instruction answers: what KVM supports, with the
//! topology of this machine and without what a guest has no use for.

use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2,
};
use kvm_ioctls::{Cap, Kvm};

/// The guest's CPUID was not computed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("KVM_GET_SUPPORTED_CPUID failed")]
    Supported(#[source] kvm_ioctls::Error),
    #[error("the guest's CPUID has {0} leaves; KVM takes at most {KVM_MAX_CPUID_ENTRIES}")]
    TooMany(usize),
}

/// The answers for a machine; [`Template::of`] gives those of one processor.
pub struct Template {
    entries: Vec<kvm_cpuid_entry2>,
    vcpus: u8,
}

impl Template {
    /// The answers for a machine of `vcpus` processors, each a core of one
    /// socket.
    pub fn new(kvm: &Kvm, vcpus: u8) -> Result<Self, Error> {
        let supported = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(Error::Supported)?;
        let deadline_timer = kvm.check_extension(Cap::TscDeadlineTimer);
        Ok(Self::from_entries(supported.as_slice().to_vec(), vcpus, deadline_timer))
    }

    fn from_entries(mut entries: Vec<kvm_cpuid_entry2>, vcpus: u8, deadline_timer: bool) -> Self {
        entries.retain(|e| !matches!(e.function, 0xb | 0x1f));
        let highest = entries.iter().find(|e| e.function == 0).map_or(0, |e| e.eax);
        if highest >= 0xb {
            entries.extend(extended_topology(vcpus));
        }
        for entry in &mut entries {
            adapt(entry, vcpus, deadline_timer);
        }
        Self { entries, vcpus }
    }

    /// The answers of processor `id`, which is its APIC id, too.
    pub fn of(&self, id: u8) -> Result<CpuId, Error> {
        let mut entries = self.entries.clone();
        for entry in &mut entries {
            name(entry, id, self.vcpus);
        }
        CpuId::from_entries(&entries).map_err(|_| Error::TooMany(entries.len()))
    }
}

/// Bits of an APIC id that tell the cores of a socket apart.
fn core_bits(vcpus: u8) -> u32 {
    u32::from(vcpus).next_power_of_two().trailing_zeros()
}

/// Leaf 0xb: one thread per core, all cores in one socket.
fn extended_topology(vcpus: u8) -> [kvm_cpuid_entry2; 3] {
    const THREAD: u32 = 1 << 8;
    const CORE: u32 = 2 << 8;
    let level = |index, eax, ebx, kind: u32| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax,
        ebx,
        ecx: kind | index,
        ..Default::default()
    };
    [level(0, 0, 1, THREAD), level(1, core_bits(vcpus), u32::from(vcpus), CORE), level(2, 0, 0, 0)]
}

/// Fits what is the same on every processor.
fn adapt(entry: &mut kvm_cpuid_entry2, vcpus: u8, deadline_timer: bool) {
    let count = u32::from(vcpus);
    match entry.function {
        0x1 => {
            const DEADLINE_TIMER: u32 = 1 << 24;
            const HYPERVISOR: u32 = 1 << 31;
            const MULTI_THREADING: u32 = 1 << 28;
            const CLFLUSH_64_BYTES: u32 = 8 << 8;
            entry.ebx = CLFLUSH_64_BYTES | count.next_power_of_two() << 16;
            entry.ecx |= HYPERVISOR;
            set(&mut entry.ecx, DEADLINE_TIMER, deadline_timer);
            set(&mut entry.edx, MULTI_THREADING, count > 1);
        }
        0x4 | 0x8000_001d => share_cache(entry, count),
        // An APIC timer that never stops, and no frequency or energy controls.
        0x6 => {
            const ALWAYS_RUNNING_TIMER: u32 = 1 << 2;
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (ALWAYS_RUNNING_TIMER, 0, 0, 0);
        }
        // No performance counters: the guest would spend its boot on them.
        0xa | 0x8000_0022 => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        0x8000_0001 => {
            const LEGACY_MULTI_CORE: u32 = 1 << 1;
            const TOPOLOGY_EXTENSIONS: u32 = 1 << 22;
            const PERFORMANCE_COUNTERS: u32 = 1 << 23 | 1 << 24 | 1 << 28;
            let legacy = count > 1 && entry.ecx & TOPOLOGY_EXTENSIONS != 0;
            set(&mut entry.ecx, LEGACY_MULTI_CORE, legacy);
            set(&mut entry.ecx, PERFORMANCE_COUNTERS, false);
        }
        0x8000_0008 => entry.ecx = core_bits(vcpus) << 12 | (count - 1),
        _ => {}
    }
}

/// Deterministic cache parameters: each core has its own first and second
/// level, the third is the socket's.
fn share_cache(entry: &mut kvm_cpuid_entry2, vcpus: u32) {
    let level = entry.eax >> 5 & 7;
    let ids = vcpus.next_power_of_two();
    let sharing = if level >= 3 { ids - 1 } else { 0 };
    entry.eax = (entry.eax & 0x3fff) | sharing << 14;
    if entry.function == 0x4 {
        entry.eax |= (ids - 1).min(0x3f) << 26;
    }
}

/// Writes the processor's id in.
fn name(entry: &mut kvm_cpuid_entry2, id: u8, vcpus: u8) {
    match entry.function {
        0x1 => entry.ebx = (entry.ebx & 0x00ff_ffff) | u32::from(id) << 24,
        0xb => entry.edx = u32::from(id),
        // One thread per core, one node.
        0x8000_001e => {
            entry.eax = u32::from(id);
            entry.ebx = u32::from(id) % u32::from(vcpus);
            entry.ecx = 0;
        }
        _ => {}
    }
}

fn set(register: &mut u32, bits: u32, on: bool) {
    if on {
        *register |= bits;
    } else {
        *register &= !bits;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn leaf(function: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, eax: 0x1f, ebx: u32::MAX, ecx: u32::MAX, ..Default::default() }
    }

    fn of(vcpus: u8, id: u8, function: u32, index: u32) -> kvm_cpuid_entry2 {
        let leaves = [0, 1, 4, 6, 0xa, 0xb, 0x1f, 0x8000_0008, 0x8000_001e].map(leaf);
        let template = Template::from_entries(leaves.to_vec(), vcpus, true);
        let cpuid = template.of(id).unwrap();
        let found = cpuid.as_slice().iter().find(|e| (e.function, e.index) == (function, index));
        *found.unwrap()
    }

    #[test]
    fn every_processor_has_its_own_apic_id() {
        for vcpus in [1, 2, 3, 4, 16] {
            for id in 0..vcpus {
                assert_eq!(of(vcpus, id, 1, 0).ebx >> 24, u32::from(id));
                assert_eq!(of(vcpus, id, 0xb, 0).edx, u32::from(id));
                assert_eq!(of(vcpus, id, 0xb, 1).edx, u32::from(id));
                assert_eq!(of(vcpus, id, 0x8000_001e, 0).eax, u32::from(id));
            }
        }
    }

    #[test]
    fn topology_is_one_socket_of_single_threaded_cores() {
        for (vcpus, bits) in [(1, 0), (2, 1), (3, 2), (4, 2), (16, 4)] {
            let core = of(vcpus, 0, 0xb, 1);
            assert_eq!((core.eax, core.ebx), (bits, u32::from(vcpus)));
            assert_eq!(of(vcpus, 0, 0xb, 0).ebx, 1);
            assert_eq!(of(vcpus, 0, 1, 0).ebx >> 16 & 0xff, 1 << bits);
            assert_eq!(of(vcpus, 0, 0x8000_0008, 0).ecx & 0xff, u32::from(vcpus) - 1);
        }
    }

    #[test]
    fn no_performance_counters_and_an_always_running_timer() {
        let counters = of(1, 0, 0xa, 0);
        assert_eq!((counters.eax, counters.ebx, counters.ecx, counters.edx), (0, 0, 0, 0));
        assert_eq!(of(1, 0, 6, 0).eax, 4);
    }
}
