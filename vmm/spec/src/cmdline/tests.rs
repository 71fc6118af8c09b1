#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn vm(cmdline: &str) -> VmSpec {
    VmSpec { vcpus: 1, memory_mib: 128, cmdline: cmdline.to_owned() }
}

#[test]
fn words_of_the_spec_come_last_so_that_they_win() {
    let line = cmdline(Machine::Kvm, &vm(" loglevel=7 "));
    assert!(line.starts_with("console=ttyS0 quiet "), "{line}");
    assert!(line.ends_with(" reboot=k loglevel=7"), "{line}");
}

#[test]
fn nothing_asked_for_leaves_no_blank_at_the_end() {
    assert!(cmdline(Machine::Qemu { tsc_khz: None }, &vm("")).ends_with("no_timer_check"));
}

#[test]
fn the_rate_of_the_counter_is_passed_where_it_is_known() {
    let line = cmdline(Machine::Qemu { tsc_khz: Some(2_400_000) }, &vm("tsc=unstable"));
    assert!(line.ends_with(" tsc_early_khz=2400000 tsc=reliable tsc=unstable"), "{line}");
    assert!(!cmdline(Machine::Qemu { tsc_khz: None }, &vm("")).contains("tsc"));
    assert!(!cmdline(Machine::Kvm, &vm("")).contains("tsc"));
}

#[test]
fn leaves_room_for_the_longest_addition_and_sixteen_devices() {
    // x86 Linux reads COMMAND_LINE_SIZE, 2048 bytes with the NUL.
    let devices = 16 * " virtio_mmio.device=4K@0xd0000000:16".len();
    let longest = vm(&"x".repeat(crate::spec::MAX_CMDLINE));
    for machine in [Machine::Kvm, Machine::Qemu { tsc_khz: Some(u32::MAX) }] {
        assert!(cmdline(machine, &longest).len() + devices < 2048);
    }
}
