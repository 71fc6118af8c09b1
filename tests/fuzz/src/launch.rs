//! Any bytes as a launch message, a report or the spec of a machine: what is
//! taken survives being written again, and what validates is within bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sandbox_vm_spec::launch::{Launch, Report};
use sandbox_vm_spec::{MAX_MEMORY_MIB, MAX_VCPUS, MIN_MEMORY_MIB, VmSpec};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(spec) = serde_json::from_slice::<VmSpec>(bytes) {
        check(&spec);
    }
    if let Ok(launch) = serde_json::from_slice::<Launch>(bytes) {
        let again = serde_json::to_vec(&launch).unwrap();
        assert_eq!(serde_json::from_slice::<Launch>(&again).unwrap(), launch);
        match &launch {
            Launch::Kvm(launch) => check(&launch.vm),
            Launch::Qemu(launch) => check(&launch.vm),
            Launch::Io(_) | Launch::Fs(_) => {}
        }
    }
    if let Ok(report) = serde_json::from_slice::<Report>(bytes) {
        let again = serde_json::to_vec(&report).unwrap();
        assert!(!again.contains(&b'\n'));
        assert_eq!(serde_json::from_slice::<Report>(&again).unwrap(), report);
    }
});

fn check(spec: &VmSpec) {
    if spec.validate().is_ok() {
        assert!((1..=MAX_VCPUS).contains(&spec.vcpus));
        assert!((MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&spec.memory_mib));
        assert!(spec.cmdline.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    }
}
