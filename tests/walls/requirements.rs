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
    (55, "netstack/src/stack/tests/bulk.rs", "a_gigabyte_each_way_over_a_very_bad_link"),
    (55, "netstack/src/stack/tests/bulk.rs", "received_is_sent_or_there_is_a_reset"),
    (56, "netstack/src/stack/tests/edges.rs", "overlaps_and_duplicates"),
    (57, "netstack/src/stack/tests/streams.rs", "either_half_goes_on_after_the_other_has_ended"),
    (57, "netstack/src/stack/tests/streams.rs", "both_end_at_once_and_what_comes_late"),
    (57, "netstack/src/stack/tests/states.rs", "a_reset_in_every_state"),
    (57, "netstack/src/stack/tests/edges.rs", "a_fin_at_the_edge_does_not_cut_the_stream"),
    (58, "netstack/src/stack/tests/windows.rs", "who_does_not_read_costs_a_ring"),
    (58, "netstack/src/stack/tests/edges.rs", "any_mss_and_any_scale"),
    (59, "netstack/src/stack/tests/limits.rs", "a_flood_into_a_black_hole_delays_nobody"),
    (60, "netstack/src/stack/tests/limits.rs", "a_guest_that_takes_no_replies"),
    (60, "netstack/src/stack/tests/edges.rs", "a_full_port_loses_nothing"),
    (61, "netstack/src/stack/tests/limits.rs", "as_many_connections_as_may_be"),
    (61, "netstack/src/stack/tests/waiting.rs", "an_idle_connection_lives"),
    (62, "netstack/src/stack/tests/datagrams.rs", "the_largest_datagram"),
    (62, "netstack/src/stack/tests/datagrams.rs", "idle_ports_are_closed"),
    (63, "netstack/src/gate/tests.rs", "ipv4_headers"),
    (63, "netstack/src/stack/tests/datagrams.rs", "parts_and_checksums"),
    (64, "netstack/src/gate/tests.rs", "ipv4_sources"),
    (64, "netstack/src/gate/tests.rs", "ipv6_sources_and_headers"),
    (65, "netstack/src/stack/tests/datagrams.rs", "identifiers_do_not_collide"),
    (65, "netstack/src/stack/tests/datagrams.rs", "dhcp_is_not_answered"),
    (65, "netstack/src/neighbour/tests.rs", "arp_is_answered_for_all_but_the_guest"),
    (66, "netstack/src/policy/tests/decisions.rs", "logging_is_no_action"),
    (66, "netstack/src/policy/tests/size.rs", "ten_thousand_rules_cost_what_ten_do"),
    (66, "netstack/src/policy/tests/files.rs", "shadowed_rules_are_refused"),
    (67, "netstack/src/policy/tests/names.rs", "patterns"),
    (67, "netstack/src/policy/tests/names.rs", "names_that_are_none"),
    (68, "netstack/src/policy/tests/files.rs", "problems_name_line_key_and_fix"),
    (68, "netstack/src/policy/tests/edges.rs", "every_form_of_an_address_is_looked_at"),
    (69, "netstack/src/dns/tests/answers.rs", "aliases_are_followed"),
    (
        70,
        "netstack/src/policy/tests/edges.rs",
        "a_shared_address_is_open_while_an_allowed_name_lives",
    ),
    (71, "netstack/src/dns/tests/answers.rs", "a_binding_ends_with_its_ttl_and_grace"),
    (71, "netstack/src/policy/tests/edges.rs", "time_passes_for_new_flows"),
    (72, "netstack/src/dns/tests/answers.rs", "a_name_of_the_outside_does_not_lead_inside"),
    (73, "netstack/src/dns/tests/queries.rs", "a_name_that_nothing_allows_is_answered_at_once"),
    (73, "netstack/src/stack/tests/names.rs", "dns_over_tcp_passes_the_observer"),
    (74, "netstack/src/stack/tests/streams.rs", "what_is_spoken_makes_no_difference"),
    (75, "netstack/src/policy/tests/edges.rs", "policies_are_replaced"),
    (75, "netstack/src/stack/tests/limits.rs", "a_stricter_policy_ends_what_it_does_not_allow"),
    (
        76,
        "netstack/src/audit/tests.rs",
        "an_allowed_flow_has_a_line_when_it_opens_and_one_when_it_ends",
    ),
    (76, "netstack/src/audit/tests.rs", "lines_have_a_rate_and_what_it_leaves_out_is_counted"),
    (76, "netstack/src/stack/tests/listings.rs", "a_flow_has_one_number"),
    (76, "netstack/src/stack/tests/listings.rs", "counters_have_names"),
    (77, "netstack/src/policy/tests/edges.rs", "policies_are_replaced"),
    (78, "netstack/src/policy/tests/files.rs", "none_and_broken_are_told_apart"),
    (80, "netstack/src/policy/tests/properties.rs", "decisions_are_those_of_the_plain_reading"),
    (80, "netstack/src/stack/tests/bulk.rs", "received_is_sent_or_there_is_a_reset"),
    (80, "netstack/src/dns/tests/messages.rs", "bytes_do_no_harm"),
    (80, "netstack/src/policy/tests/properties.rs", "files_survive_being_written"),
];

/// Groups of requirements of which every one is built: each number has a test.
const WHOLE_GROUPS: &[std::ops::RangeInclusive<u32>] = &[55..=65, 66..=78, 80..=80];

/// R79: what comes from outside is read by a fuzz target, with seeds.
const FUZZED: &[&str] =
    &["net", "policy", "dns", "dns-stream", "agent", "fs", "ring", "vsock", "spec"];

/// Where a reader finds what a number means.
const LEGEND: &str = "docs/requirements.md";

/// `12` of `R12`.
fn number(word: &str) -> Option<u32> {
    word.strip_prefix('R').filter(|digits| !digits.starts_with('0'))?.parse().ok()
}

#[test]
fn every_cited_number_is_in_the_legend() {
    let text = fs::read_to_string(tree().join(LEGEND)).unwrap();
    let rows = text.lines().filter_map(|line| number(line.strip_prefix("| ")?.split(' ').next()?));
    let known: std::collections::BTreeSet<u32> = rows.collect();
    let tables = BY_FEATURE_TESTS.iter().chain(BY_CRATES.iter().map(|(number, ..)| number));
    let mut missing: Vec<String> = tables
        .filter(|number| !known.contains(number))
        .map(|number| format!("R{number} of {}", file!()))
        .collect();
    for (path, line, text) in lines().iter().filter(|(_, _, text)| text.contains("//")) {
        let comment = text.split_once("//").map_or("", |(_, comment)| comment);
        let cited = comment.split(|c: char| !c.is_alphanumeric()).filter_map(number);
        let unknown = cited.filter(|number| !known.contains(number));
        missing.extend(unknown.map(|number| format!("R{number} in {}:{line}", path.display())));
    }
    none(missing, "docs/requirements.md has no such number");
}

#[test]
fn whole_groups_are_whole() {
    let missing = WHOLE_GROUPS
        .iter()
        .flat_map(Clone::clone)
        .filter(|number| !BY_CRATES.iter().any(|(own, ..)| own == number))
        .filter(|number| !BY_FEATURE_TESTS.contains(number))
        .map(|number| format!("R{number}"))
        .collect();
    none(missing, "no test is known to prove");
}

#[test]
fn what_comes_from_outside_is_fuzzed() {
    let manifest = fs::read_to_string(tree().join("tests/fuzz/Cargo.toml")).unwrap_or_default();
    let has_seeds = |target: &str| {
        let seeds = fs::read_dir(tree().join("tests/fuzz/corpus").join(target));
        seeds.is_ok_and(|mut seeds| seeds.next().is_some())
    };
    let missing = FUZZED
        .iter()
        .filter(|target| !manifest.contains(&format!("name = \"{target}\"")) || !has_seeds(target))
        .map(|target| (*target).to_owned())
        .collect();
    none(missing, "a fuzz target or its seeds are gone");
}

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

/// In the tables, what is in backquotes in the last column is a test.
#[test]
fn tests_that_the_page_of_rfcs_names_are_there() {
    let page = "docs/conformance-network.md";
    let text = fs::read_to_string(tree().join(page)).unwrap();
    let last = text.lines().filter_map(|line| line.strip_suffix(" |")?.rsplit_once(" | "));
    let named = last.flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2));
    let named: std::collections::BTreeSet<&str> = named.collect();
    assert!(named.len() > 50, "{page} has lost its tables");
    let code: String = lines()
        .into_iter()
        .filter(|(path, ..)| {
            ["netstack/src", "tests"]
                .map(|dir| tree().join(dir))
                .iter()
                .any(|dir| path.starts_with(dir))
        })
        .map(|(_, _, line)| line + "\n")
        .collect();
    let missing = named.into_iter().filter(|name| !code.contains(&format!("fn {name}(")));
    none(missing.map(str::to_owned).collect(), "docs/conformance-network.md names no such tests");
}
