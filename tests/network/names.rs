//! DNS as programs use it: the C library's resolver and busybox's.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use sandbox_tests::network::{Answer, OTHER, OTHER_RESOLVER, RESOLVER, SERVER};
use sandbox_tests::{Bed, tests};

use super::inside;

tests![
    Any names_have_their_addresses_over_udp,
    Any names_have_their_addresses_over_tcp,
    Any a_long_answer_is_asked_for_again_over_tcp,
    Any a_server_that_is_not_configured_can_be_asked,
    Any a_silent_server_is_no_reason_to_fail,
];

fn zone(bed: &Bed) {
    let dns = &bed.network().dns;
    dns.set_addresses("both.world.test", &SERVER.each());
    dns.set_addresses("four.world.test", &[SERVER.v4.into(), OTHER.v4.into()]);
    dns.set_addresses("six.world.test", &[SERVER.v6.into()]);
    dns.set("alias.world.test", &[Answer::Alias("second.world.test".to_owned())]);
    dns.set("second.world.test", &[Answer::Alias("both.world.test".to_owned())]);
}

const LOOK_UPS: &str = "for name in both.world.test four.world.test six.world.test \
    alias.world.test BOTH.World.Test both; do toolbox look-up $name; done; \
    toolbox look-up missing.world.test | cut -d: -f1";

fn expected() -> Vec<String> {
    let [four, six] = SERVER.each();
    let both = format!("{four} {six}");
    let two = format!("{four} {}", OTHER.v4);
    [&both, &two, &six.to_string(), &both, &both, &both, "none"].map(str::to_owned).into()
}

fn names_have_their_addresses_over_udp(bed: &Bed) {
    zone(bed);
    assert_eq!(inside(bed, LOOK_UPS), expected());
    let asked = bed.network().dns.asked();
    assert!(asked.iter().all(|query| query.contains(" udp ")), "{asked:#?}");
}

/// Mounts a resolv.conf with these lines.
fn inside_with(bed: &Bed, resolv_conf: &str, line: &str) -> Vec<String> {
    let file = bed.dir().join("resolv.conf");
    fs::write(&file, resolv_conf).unwrap();
    let flags: Vec<String> = bed.network().pod().flags();
    let flag =
        format!("--mount=type=bind,src={},dst=/etc/resolv.conf,options=rbind:ro", file.display());
    let out = bed.run("a").flags(&[flags[0].clone(), flag]).shell(line).ok();
    out.text().lines().map(str::to_owned).collect()
}

/// R73: DNS over TCP.
fn names_have_their_addresses_over_tcp(bed: &Bed) {
    zone(bed);
    let conf = format!("nameserver {RESOLVER}\nsearch world.test\noptions use-vc\n");
    assert_eq!(inside_with(bed, &conf, LOOK_UPS), expected());
    let asked = bed.network().dns.asked();
    assert!(asked.iter().all(|query| query.contains(" tcp ")), "{asked:#?}");
}

fn a_long_answer_is_asked_for_again_over_tcp(bed: &Bed) {
    let many: Vec<IpAddr> = (1..=60).map(|last| Ipv4Addr::new(203, 0, 113, last).into()).collect();
    bed.network().dns.set_addresses("many.world.test", &many);
    let told = inside(bed, "toolbox look-up many.world.test");
    let expected: Vec<String> = many.iter().map(IpAddr::to_string).collect();
    assert_eq!(told, [expected.join(" ")]);
    let asked = bed.network().dns.asked();
    for over in ["udp", "tcp"] {
        let query = format!("{RESOLVER} {over} a many.world.test");
        assert!(asked.contains(&query), "no {query} in {asked:#?}");
    }
}

/// Where no policy says otherwise.
fn a_server_that_is_not_configured_can_be_asked(bed: &Bed) {
    zone(bed);
    let line = format!(
        "nslookup -type=a six.world.test {OTHER_RESOLVER} | grep -c '^Name' ; \
        nslookup -type=a four.world.test {OTHER_RESOLVER} | grep -A1 '^Name' | grep -c Address"
    );
    assert_eq!(inside(bed, &line), ["0", "2"]);
}

/// The second is asked when the first, where nobody is, says nothing.
fn a_silent_server_is_no_reason_to_fail(bed: &Bed) {
    zone(bed);
    let silent = sandbox_tests::network::BLACK_HOLE.v4;
    let conf = format!("nameserver {silent}\nnameserver {RESOLVER}\noptions timeout:1\n");
    let told = inside_with(bed, &conf, "toolbox look-up four.world.test");
    assert_eq!(told, [format!("{} {}", SERVER.v4, OTHER.v4)]);
}
