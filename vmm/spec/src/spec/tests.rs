use super::*;

fn spec() -> VmSpec {
    VmSpec { vcpus: 1, memory_mib: 128, cmdline: String::new() }
}

#[test]
fn bounds_are_inclusive() {
    for vcpus in [1, MAX_VCPUS] {
        assert_eq!(VmSpec { vcpus, ..spec() }.validate(), Ok(()));
    }
    for vcpus in [0, MAX_VCPUS + 1, u8::MAX] {
        assert_eq!(VmSpec { vcpus, ..spec() }.validate(), Err(SpecError::Vcpus(vcpus)));
    }
    for memory_mib in [MIN_MEMORY_MIB, MAX_MEMORY_MIB] {
        assert_eq!(VmSpec { memory_mib, ..spec() }.validate(), Ok(()));
    }
    for memory_mib in [0, MIN_MEMORY_MIB - 1, MAX_MEMORY_MIB + 1, u32::MAX] {
        assert_eq!(VmSpec { memory_mib, ..spec() }.validate(), Err(SpecError::Memory(memory_mib)));
    }
}

#[test]
fn the_command_line_is_short_printable_ascii() {
    let long = "x".repeat(MAX_CMDLINE + 1);
    assert_eq!(
        VmSpec { cmdline: long, ..spec() }.validate(),
        Err(SpecError::CmdlineLength(MAX_CMDLINE + 1))
    );
    for (text, byte) in [("a\0b", 0), ("a\nb", 10), ("é", 0xc3)] {
        assert_eq!(
            VmSpec { cmdline: text.into(), ..spec() }.validate(),
            Err(SpecError::CmdlineByte(byte))
        );
    }
}
