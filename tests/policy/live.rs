//! Another policy for a pod that runs.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use sandbox_tests::network::{OTHER, SCRIPT, SERVER};
use sandbox_tests::{Bed, tests, until};

use super::{HELLO, ONE_NAME, REFUSED, configure, shell};

tests![
    Ours a_policy_is_replaced_while_the_pod_runs,
    Ours a_policy_that_cannot_be_read_replaces_nothing,
    Ours the_policy_of_a_pod_is_shown_and_explained,
    Ours a_pod_that_runs_is_asked_what_it_would_reach,
];

const ALL: &str = "version = 1\ndefaults = { egress = \"allow\", ingress = \"allow\" }\n";
const NOTHING: &str = "version = 1\n";

fn file(bed: &Bed, name: &str, text: &str) -> String {
    let path = bed.dir().join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// R75: for new flows at once, for open ones when that is asked for.
fn a_policy_is_replaced_while_the_pod_runs(bed: &Bed) {
    configure(bed, None);
    let (all, nothing) = (file(bed, "all.toml", ALL), file(bed, "nothing.toml", NOTHING));
    let shell = shell(bed, Some(NOTHING));
    let dial = format!("toolbox tcp {}:443 line", SERVER.v4);
    assert!(shell.line(&dial).starts_with("connect=ECONNREFUSED"));
    bed.ctl(&["policy", "set", shell.id(), &all]).ok();
    assert_eq!(shell.line(&dial), HELLO);

    let server = SocketAddr::new(SERVER.v4.into(), SCRIPT);
    let hold =
        format!("toolbox tcp {server} say:tell-peer,echo line say:more line patience:60000 recv");
    let held = shell.begin(&hold);
    let open = || bed.ctl(&["net", "flows", shell.id()]).ok().text();
    until("an open flow", Duration::from_secs(10), || {
        open().contains(&server.to_string()).then_some(())
    });
    bed.ctl(&["policy", "set", shell.id(), &nothing]).ok();
    assert!(shell.line(&dial).starts_with("connect=ECONNREFUSED"), "a new flow");
    assert!(open().contains(&server.to_string()), "the open flow went: {}", open());
    bed.ctl(&["policy", "set", "--recheck", shell.id(), &nothing]).ok();
    let told = until("its end", Duration::from_secs(10), || fs::read_to_string(&held).ok());
    assert!(told.trim().ends_with("line=more recv=ECONNRESET"), "{told}");
    assert!(!open().contains(&server.to_string()), "{}", open());
    shell.end();
}

/// R75: the old one stays.
fn a_policy_that_cannot_be_read_replaces_nothing(bed: &Bed) {
    configure(bed, None);
    let broken = file(bed, "broken.toml", "version = 1\n[[rule]]\nid = \"a\"\ndir = \"out\"\n");
    let shell = shell(bed, Some(NOTHING));
    bed.ctl(&["policy", "set", shell.id(), &broken]).fails_with(&["line 4", "dir", "egress"]);
    bed.ctl(&["policy", "set", shell.id(), "/nowhere.toml"]).fails_with(&["/nowhere.toml"]);
    bed.ctl(&["policy", "set", "no-such-pod", &broken]).fails_with(&["no-such-pod"]);
    let dial = format!("toolbox tcp {}:443 recv", OTHER.v4);
    assert_eq!(shell.line(&dial), REFUSED);
    shell.end();
}

fn the_policy_of_a_pod_is_shown_and_explained(bed: &Bed) {
    configure(bed, None);
    bed.network().dns.set_addresses("api.world.test", &SERVER.each());
    let shell = shell(bed, Some(ONE_NAME));
    let shown = bed.ctl(&["policy", "show", shell.id()]).ok().text();
    assert!(shown.contains("id = \"api\""), "{shown}");
    let own = file(bed, "own.toml", ONE_NAME);
    let explain = |to: &str| bed.ctl(&["policy", "explain", &own, to]).ok().text();
    let yes = explain("api.world.test:443");
    assert!(yes.contains("api") && yes.contains("allow"), "{yes}");
    let no = explain("evil.world.test:443");
    assert!(no.contains("not even looked up"), "{no}");
    let no = explain("169.254.169.254:80");
    assert!(no.contains("metadata"), "{no}");
    shell.end();
}

/// `explain` asks the policy in force with the names that DNS answers gave, so
/// its verdict is the one that a connection then gets.
fn a_pod_that_runs_is_asked_what_it_would_reach(bed: &Bed) {
    configure(bed, None);
    bed.network().dns.set_addresses("api.world.test", &SERVER.each());
    let shell = shell(bed, Some(ONE_NAME));
    let explain = |to: &str| bed.ctl(&["policy", "explain", shell.id(), to]).ok().text();
    let address = SocketAddr::new(SERVER.v4.into(), 443).to_string();
    let unknown = explain(&address);
    assert!(unknown.contains("is denied") && unknown.contains("pinned server"), "{unknown}");
    let unknown = explain("api.world.test:443");
    assert!(unknown.contains("rule `api`") && unknown.contains("has not resolved"), "{unknown}");

    assert_eq!(shell.line("toolbox tcp-name api.world.test 443 line"), HELLO);
    let known = explain(&address);
    for part in ["is allowed: rule `api` of the pod's policy", "as api.world.test"] {
        assert!(known.contains(part), "no {part} in {known}");
    }
    let known = explain("api.world.test:443");
    for ip in SERVER.each() {
        assert!(known.contains(&format!("api.world.test at {ip} port 443 is allowed")), "{known}");
    }
    let other = explain("api.world.test:80");
    assert!(other.contains("is denied: no rule matches"), "{other}");
    let evil = explain("evil.world.test:443");
    assert!(evil.contains("not even looked up"), "{evil}");
    assert!(explain("169.254.169.254:80").contains("metadata"));

    bed.ctl(&["policy", "set", shell.id(), &file(bed, "all.toml", ALL)]).ok();
    let open = explain(&SocketAddr::new(OTHER.v4.into(), 443).to_string());
    assert!(open.contains("is allowed"), "{open}");
    assert_eq!(shell.line(&format!("toolbox tcp {}:443 line", OTHER.v4)), HELLO);

    let ctl = |words: &[&str]| bed.ctl(&[&["policy", "explain"], words].concat());
    ctl(&["no-such-pod", &address]).fails_with(&["no sandbox no-such-pod", shell.id()]);
    for bad in ["nowhere", "api.world.test:99999", "a b:1"] {
        ctl(&[shell.id(), bad]).exits(2).fails_with(&[bad, "api.example.com:443"]);
    }
    shell.end();
}
