#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn config(engine: EngineChoice, qemu: &str) -> Config {
    // No such binary: its probe fails wherever there is a /dev/kvm.
    let vmm = "/nonexistent/sandbox-vmm".into();
    let state_dir = "/nonexistent".into();
    Config { engine, qemu: qemu.into(), vmm, state_dir, ..Config::default() }
}

fn refused(config: &Config) -> String {
    choose(config).err().unwrap().to_string()
}

#[test]
fn qemu_stands_in_for_kvm() {
    let chosen = choose(&config(EngineChoice::Auto, "/bin/sh")).unwrap();
    assert_eq!(chosen.name(), "qemu");
    assert!(chosen.reason.starts_with("KVM cannot be used: /"), "{}", chosen.reason);
    let allowed = [0, 1, 16].map(|vcpus| chosen.allowance(vcpus).as_secs());
    assert_eq!(allowed, [0, 0, 45]);
}

#[test]
fn without_engines_all_that_was_tried_is_told() {
    let text = refused(&config(EngineChoice::Auto, "/nonexistent/qemu"));
    assert!(text.contains("kvm: /"), "{text}");
    assert!(text.contains("qemu: /nonexistent/qemu is not there"), "{text}");
    assert!(text.contains(QEMU_PACKAGE), "{text}");
}

#[test]
fn a_named_engine_is_not_replaced() {
    let text = refused(&config(EngineChoice::Kvm, "/bin/sh"));
    assert!(text.contains("asks for the kvm engine"), "{text}");
    let text = refused(&config(EngineChoice::Qemu, "no-such-qemu"));
    assert!(text.contains("no-such-qemu is not in PATH"), "{text}");
}

#[test]
fn a_name_is_searched_in_path() {
    let found = search(Path::new("sh"), "relative:/nonexistent:/bin".as_ref()).unwrap();
    assert_eq!(found, Path::new("/bin/sh"));
    assert!(search(Path::new("passwd"), "/etc".as_ref()).is_err());
}
