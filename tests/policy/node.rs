//! The node's policy over the pod's.

use sandbox_tests::network::{METADATA, OTHER, SERVER};
use sandbox_tests::{Bed, tests};

use super::{HELLO, REFUSED, audited, configure, shell};

tests![
    Ours a_pod_opens_nothing_that_the_node_closes,
    Ours the_node_alone_opens_what_the_system_closes,
];

const ALL: &str = "version = 1\ndefaults = { egress = \"allow\", ingress = \"allow\" }\n";

fn rule(id: &str, action: &str, cidr: &str) -> String {
    format!(
        "[[rule]]\nid = \"{id}\"\ndir = \"egress\"\naction = \"{action}\"\ncidr = [\"{cidr}\"]\n"
    )
}

fn a_pod_opens_nothing_that_the_node_closes(bed: &Bed) {
    let (server, other) = (SERVER.v4, OTHER.v4);
    let closed = rule("closed", "deny", &format!("{other}/32"));
    configure(bed, Some(&format!("{ALL}{closed}")));
    let opened = rule("opened", "allow", "0.0.0.0/0");
    let shell = shell(bed, Some(&format!("{ALL}{opened}")));
    assert_eq!(shell.line(&format!("toolbox tcp {server}:443 line")), HELLO);
    assert_eq!(shell.line(&format!("toolbox tcp {other}:443 recv")), REFUSED);
    let to = format!("{other}:443");
    audited(bed, &[("dst", &to), ("verdict", "deny"), ("tier", "node"), ("rule", "closed")]);
    assert_eq!(shell.line(&format!("toolbox tcp {METADATA}:80 recv")), REFUSED);
    let to = format!("{METADATA}:80");
    audited(bed, &[("dst", &to), ("verdict", "deny"), ("tier", "system")]);
    shell.end();
}

fn the_node_alone_opens_what_the_system_closes(bed: &Bed) {
    let opened = rule("metadata", "allow", &format!("{METADATA}/32"));
    configure(bed, Some(&format!("{ALL}{opened}")));
    let line = format!("toolbox tcp {METADATA}:80 line");
    let out = super::with(bed, None)(bed.run("a")).shell(&line).ok();
    assert_eq!(out.text(), HELLO);
    configure(bed, Some(ALL));
    let line = format!("toolbox tcp {METADATA}:80 recv");
    let own = format!("{ALL}{opened}");
    let out = super::with(bed, Some(&own))(bed.run("b")).shell(&line).ok();
    assert_eq!(out.text(), REFUSED);
}
