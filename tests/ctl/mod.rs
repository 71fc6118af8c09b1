//! `sandboxctl`: what people and scripts learn from it.

use sandbox_tests::{Bed, Output, Process, Shim, spec, tests};
use serde_json::Value;

tests![
    Ours doctor_says_what_is_there,
    Ours doctor_names_what_is_missing_and_exits_with_1,
    Ours list_shows_what_runs_and_no_more,
];

/// The finding of this name in what `doctor --json` prints.
fn check(out: &Output, name: &str) -> Value {
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{report}")).clone()
}

/// The finding that this test cannot make good: where some other containerd
/// of the machine looks for the shim.
const SHIM: &str = "shim";

/// Asks with this bed's containerd running; exits with 1 only if something is missing.
fn doctor_says_what_is_there(bed: &Bed) {
    bed.start_containerd();
    let out = bed.ctl(&["doctor", "--json"]);
    let missing = missing(&out);
    assert!(missing.iter().all(|name| name == SHIM), "{missing:?}");
    assert_eq!(out.code, i32::from(!missing.is_empty()), "{missing:?}");
    let engine = check(&out, "engine");
    let name = engine["facts"]["name"].as_str().unwrap();
    assert!(["kvm", "qemu"].contains(&name), "{engine}");
    assert_ne!(engine["facts"]["reason"].as_str().unwrap(), "", "{engine}");
    for part in ["guest kernel", "guest initramfs"] {
        let found = check(&out, part);
        assert_eq!(found["level"], "ok", "{found}");
        let sums = found["facts"].as_object().unwrap().values();
        let is_sum =
            |value: &Value| value.as_str().is_some_and(|text| text.len() == 64 && is_hex(text));
        assert!(sums.into_iter().any(is_sum), "no SHA-256 in {found}");
    }
    assert_eq!(check(&out, "containerd")["level"], "ok");
    let text = bed.ctl(&["doctor"]).text();
    assert!(text.contains(name) && text.contains("Sandboxes can"), "{text}");
}

/// Names of what has to be there and is not.
fn missing(out: &Output) -> Vec<String> {
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| check["level"] == "missing")
        .map(|check| check["name"].as_str().unwrap().to_owned())
        .collect()
}

fn is_hex(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_hexdigit())
}

fn doctor_names_what_is_missing_and_exits_with_1(bed: &Bed) {
    bed.configure("kernel = \"/nowhere/vmlinux\"\n");
    let out = bed.ctl(&["doctor"]).exits(1);
    let text = out.text();
    assert!(text.contains("/nowhere/vmlinux") && text.contains("run: "), "{text}");
    let out = bed.ctl(&["doctor", "--json"]).exits(1);
    assert_eq!(check(&out, "guest kernel")["level"], "missing");
    bed.configure("colour = \"red\"\n");
    let out = bed.ctl(&["doctor"]).exits(1);
    assert!(out.text().contains("colour"), "{}", out.text());
}

fn rows(bed: &Bed) -> Vec<Value> {
    let out = bed.ctl(&["list", "--json"]).ok();
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Each sandbox with its engine and its processes, as long as it is there.
fn list_shows_what_runs_and_no_more(bed: &Bed) {
    assert_eq!(rows(bed), Vec::<Value>::new());
    let shim: Shim = bed.shim("a", spec(&["sleep", "1000"]));
    shim.create(&shim.request(bed.rootfs("a"))).unwrap();
    shim.rpc().start().unwrap();
    let [row] = <[Value; 1]>::try_from(rows(bed)).unwrap();
    assert_eq!((&row["id"], &row["status"]), (&bed.id("a").into(), &"running".into()), "{row}");
    let listed: Vec<i64> = row["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| process["pid"].as_i64().unwrap())
        .collect();
    let found: Vec<i64> =
        shim.processes().iter().map(|process: &Process| process.pid.into()).collect();
    // QEMU itself is a child of what is listed.
    assert!(listed.len() >= 4, "shim, machine, io and fs: {row}");
    assert!(listed.iter().all(|pid| found.contains(pid)), "{found:?} run, {row} is listed");
    let table = bed.ctl(&["list"]).ok().text();
    assert!(table.contains(&bed.id("a")), "{table}");
    shim.rpc().kill(9, true).unwrap();
    shim.rpc().wait().unwrap();
    shim.rpc().delete().unwrap();
    shim.shutdown();
    assert_eq!(rows(bed), Vec::<Value>::new());
}
