//! Every numbered requirement that is built has a test that says so.

use std::fs;

use crate::source::lines;
use crate::{none, tree};

/// Met by a feature test whose doc comment names the number: `R12`.
const BY_FEATURE_TESTS: &[u32] = &[
    7, 8, 9, 10, 11, 12, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 30, 33, 34, 35, 37,
    39, 40, 44, 45, 49, 51, 53, 54,
];

/// Met by a test of a crate: the number, the file, and the test in it.
const BY_CRATES: &[(u32, &str, &str)] = &[
    (1, "agent/src/streams/tests.rs", "a_header_is_read_from_any_split_and_leaves_the_rest"),
    (1, "agent/src/streams/tests.rs", "an_end_in_mid_header_is_an_error"),
    (2, "agent/src/streams/tests.rs", "bad_headers_get_a_reason"),
    (2, "vmm/devices/src/vsock/tests/packets.rs", "more_data_than_the_packet_holds"),
    (3, "vmm/devices/src/vsock/tests/packets.rs", "connections_take_turns"),
    (4, "vmm/devices/src/vsock/tests/device.rs", "garbage_packets"),
    (5, "agent/tests/guest/protocol.rs", "before_the_handshake"),
    (6, "vmm/devices/src/vsock/tests/device.rs", "the_guest_reaches_its_ports_alone"),
    (36, "runtime/src/process/tests.rs", "a_reused_pid_is_another_process"),
    (36, "runtime/src/cleanup/tests.rs", "a_process_with_a_reused_pid_lives"),
    (47, "vmm/devices/src/chain/tests.rs", "looped_chain"),
    (47, "vmm/devices/src/chain/tests.rs", "indirect_loop"),
    (47, "vmm/devices/src/chain/tests.rs", "overlapping_chains_and_buffers"),
    (47, "vmm/devices/src/chain/tests.rs", "indirect_overlapping_the_descriptor_table"),
    (47, "vmm/devices/src/chain/tests.rs", "u32_max_length"),
    (48, "vmm/devices/src/vsock/tests/device.rs", "a_flood_of_connections_is_refused_at_the_bound"),
    (48, "agent/src/table/tests.rs", "the_number_of_containers_is_bounded"),
    (63, "netstack/src/gate/tests.rs", "ipv4_headers"),
    (64, "netstack/src/gate/tests.rs", "ipv4_sources"),
];

#[test]
fn feature_tests_name_their_requirements() {
    let doc: Vec<String> = lines()
        .into_iter()
        .filter(|(path, _, line)| {
            path.starts_with(tree().join("tests")) && line.trim_start().starts_with("///")
        })
        .map(|(_, _, line)| line)
        .collect();
    let says = |number: &u32| {
        let name = format!("R{number}");
        doc.iter().any(|line| line.split(|c: char| !c.is_alphanumeric()).any(|word| word == name))
    };
    let missing =
        BY_FEATURE_TESTS.iter().filter(|number| !says(number)).map(|n| format!("R{n}")).collect();
    none(missing, "no feature test says that it proves");
}

#[test]
fn the_crates_tests_are_there() {
    let missing = BY_CRATES
        .iter()
        .filter(|(_, file, name)| {
            let text = fs::read_to_string(tree().join(file)).unwrap_or_default();
            !text.contains(&format!("fn {name}("))
        })
        .map(|(number, file, name)| format!("R{number}: {name} in {file}"))
        .collect();
    none(missing, "a requirement's test is gone");
}
