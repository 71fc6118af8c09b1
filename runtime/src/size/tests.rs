#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn pod(annotations: &[(&str, &str)], cpus: Option<f64>, memory_mib: Option<u64>) -> PodSpec {
    let annotations = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    PodSpec { annotations, cpus, memory: memory_mib.map(|mib| mib * MIB), ..PodSpec::default() }
}

fn size(pod: &PodSpec) -> (u8, u32) {
    let spec = vm_spec(&Config::default(), pod).unwrap();
    (spec.vcpus, spec.memory_mib)
}

#[test]
fn the_larger_of_default_and_limits_wins() {
    for (cpus, memory, expected) in [
        (None, None, (1, 512)),
        (Some(0.1), Some(64), (1, 512)),
        (Some(1.5), Some(512), (2, 608)),
        (Some(4.0), Some(4000), (4, 4096)),
        (Some(64.0), None, (MAX_VCPUS, 512)),
        (Some(-1.0), None, (1, 512)),
    ] {
        assert_eq!(size(&pod(&[], cpus, memory)), expected, "{cpus:?} {memory:?}");
    }
}

#[test]
fn annotations_win_downwards_too() {
    let annotations = [(VCPUS, "4"), (MEMORY, "128")];
    assert_eq!(size(&pod(&annotations, Some(8.0), Some(8000))), (4, 128));
}

#[test]
fn what_cannot_be_is_named() {
    for (name, value, expected) in [
        (VCPUS, "two", "io.sandbox.vcpus=\"two\""),
        (VCPUS, "-1", "io.sandbox.vcpus=\"-1\""),
        (VCPUS, "17", "17 vCPUs"),
        (VCPUS, "0", "0 vCPUs"),
        (MEMORY, "", "io.sandbox.memory_mib=\"\""),
        (MEMORY, "1", "1 MiB"),
    ] {
        let error = vm_spec(&Config::default(), &pod(&[(name, value)], None, None)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    let error = vm_spec(&Config::default(), &pod(&[], None, Some(1 << 40))).unwrap_err();
    assert!(error.to_string().contains("MiB"), "{error}");
}

#[test]
fn more_than_the_host_has_is_refused() {
    let spec = vm_spec(&Config::default(), &pod(&[(MEMORY, "4096")], None, None)).unwrap();
    let error = check_total(&spec, 2048).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(error.to_string().contains("needs 4096 MiB"), "{error}");
    assert!(check_total(&spec, 4096).is_ok());
    assert_eq!(total_mib("MemTotal:       24680448 kB\nMemFree: 1 kB"), Some(24102));
}
