//! Policies as files and annotations: good, broken and unknown.

use std::fs;

use sandbox_tests::network::SERVER;
use sandbox_tests::{Bed, tests};

use super::{HELLO, ONE_NAME, REFUSED, configure, with};

tests![
    Ours a_broken_policy_is_an_error_with_line_key_and_fix,
    Ours an_unknown_name_is_an_error_that_lists_the_known,
    Ours a_policy_by_name_and_in_json,
    Ours a_broken_node_policy_starts_nothing,
];

const BROKEN: &str = "version = 1\n\n[[rule]]\nid = \"db\"\ndir = \"egress\"\n\
                      action = \"allow\"\ncidr = [\"10.0.0.1/8\"]\n";
const MESSAGE: &[&str] = &["line 7", "cidr", "10.0.0.1/8", "10.0.0.0/8"];

/// R68 and R78: a sandbox with a policy that cannot be read does not start.
fn a_broken_policy_is_an_error_with_line_key_and_fix(bed: &Bed) {
    configure(bed, None);
    let run = with(bed, Some(BROKEN))(bed.run("a"));
    run.foreground(&["true"]).fails_with(MESSAGE);
    let path = bed.dir().join("policies/broken.toml");
    fs::write(&path, BROKEN).unwrap();
    let run = with(bed, Some("broken"))(bed.run("b"));
    run.foreground(&["true"]).fails_with(&[MESSAGE, &["broken"]].concat());
    // Keys that are none are told apart from those that are.
    let typing = "version = 1\ndefaults = { egres = \"deny\" }\n";
    let run = with(bed, Some(typing))(bed.run("c"));
    run.foreground(&["true"]).fails_with(&["line 2", "egres", "egress"]);
}

fn an_unknown_name_is_an_error_that_lists_the_known(bed: &Bed) {
    configure(bed, None);
    fs::write(bed.dir().join("policies/web.toml"), ONE_NAME).unwrap();
    let run = with(bed, Some("wbe"))(bed.run("a"));
    run.foreground(&["true"]).fails_with(&["wbe", "web"]);
    for climbing in ["../node", "/etc/passwd", ".."] {
        let run = with(bed, Some(climbing))(bed.run("b"));
        run.foreground(&["true"]).fails_with(&["not the name of a network policy"]);
    }
}

fn a_policy_by_name_and_in_json(bed: &Bed) {
    configure(bed, None);
    let server = SERVER.v4;
    let json = format!(
        r#"{{"version":1,"rule":[{{"id":"one","dir":"egress","action":"allow","cidr":["{server}/32"],"ports":[443]}}]}}"#
    );
    fs::write(bed.dir().join("policies/one.toml"), &json).unwrap();
    let line = format!("toolbox tcp {server}:443 line; toolbox tcp {server}:80 recv");
    for (name, policy) in [("a", json.as_str()), ("b", "one")] {
        let out = with(bed, Some(policy))(bed.run(name)).shell(&line).ok();
        assert_eq!(out.text(), format!("{HELLO}\n{REFUSED}"), "{policy}");
    }
}

/// Neither as if there were none, nor as if it allowed what it says first.
fn a_broken_node_policy_starts_nothing(bed: &Bed) {
    configure(bed, Some(BROKEN));
    let run = with(bed, None)(bed.run("a"));
    run.foreground(&["true"]).fails_with(&[MESSAGE, &["node.toml"]].concat());
    fs::remove_file(bed.dir().join("node.toml")).unwrap();
    let run = with(bed, None)(bed.run("b"));
    run.foreground(&["true"]).fails_with(&["node.toml", "No such file"]);
}
