//! What people see of a pod's network.

use std::net::SocketAddr;
use std::time::Duration;

use sandbox_tests::network::{ECHO, OTHER, SCRIPT, SERVER};
use sandbox_tests::{Bed, tests, until};

use super::{HELLO, ONE_NAME, configure, shell};

tests![
    Ours open_flows_names_and_verdicts_are_listed,
    Ours a_capture_has_the_frames_of_the_link,
];

/// R76.
fn open_flows_names_and_verdicts_are_listed(bed: &Bed) {
    configure(bed, None);
    let network = bed.network();
    network.dns.set_addresses("api.world.test", &SERVER.each());
    let shell = shell(bed, Some(ONE_NAME));
    let id = shell.id().to_owned();
    let net = |what: &str| bed.ctl(&["net", what, &id]).ok().text();
    assert_eq!(shell.line("toolbox tcp-name api.world.test 443 line"), HELLO);
    shell.line(&format!("toolbox tcp {}:443 recv", OTHER.v4));
    let names = net("dns");
    assert!(names.contains("api.world.test") && names.contains(&SERVER.v4.to_string()), "{names}");
    let verdicts = net("audit");
    for part in ["api.world.test", "no-name", &OTHER.v4.to_string()] {
        assert!(verdicts.contains(part), "no {part} in {verdicts}");
    }
    // 443 says hello and waits for nothing: the flow is over, and listed no more.
    let to = SocketAddr::new(SERVER.v4.into(), 443).to_string();
    until("no flow", Duration::from_secs(10), || (!net("flows").contains(&to)).then_some(()));
    shell.end();
}

fn a_capture_has_the_frames_of_the_link(bed: &Bed) {
    configure(bed, None);
    let shell = shell(bed, None);
    let file = bed.dir().join("capture.pcapng");
    let mut capture = bed.ctl_command(&["net", "pcap", shell.id()]);
    let mut child = capture.stdout(std::fs::File::create(&file).unwrap()).spawn().unwrap();
    let size = || std::fs::metadata(&file).unwrap().len();
    until("the head of the capture", Duration::from_secs(10), || (size() > 0).then_some(()));
    let marker = "a-text-that-is-in-no-other-frame";
    let echo = SocketAddr::new(SERVER.v4.into(), ECHO);
    assert_eq!(
        shell.line(&format!("toolbox udp {echo} say:{marker} text")),
        format!("connect=ok say={marker} text={marker}")
    );
    let server = SocketAddr::new(SERVER.v4.into(), SCRIPT);
    shell.line(&format!("toolbox tcp {server} say:close recv"));
    let bytes = until("both datagrams", Duration::from_secs(10), || {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(marker.len()).filter(|part| part == &marker.as_bytes()).count();
        (found == 2).then_some(bytes)
    });
    assert_eq!(bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a], "no pcapng");
    let _ = child.kill();
    let _ = child.wait();
    shell.end();
}
