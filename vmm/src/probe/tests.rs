#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use super::*;

fn reason(path: &'static str) -> String {
    let verdict = judge(path);
    assert!(!verdict.usable);
    verdict.reason
}

#[test]
fn what_is_not_there_is_named_with_its_remedy() {
    let reason = reason("/nonexistent/kvm");
    assert!(reason.contains("/nonexistent/kvm does not exist"), "{reason}");
    assert!(reason.contains("modprobe"), "{reason}");
}

#[test]
fn what_is_not_kvm_is_refused() {
    let reason = reason("/dev/null");
    assert!(reason.contains("version -1"), "{reason}");
}

#[test]
fn what_cannot_be_opened_says_why() {
    let reason = reason("/dev");
    assert!(reason.contains("cannot be opened"), "{reason}");
    assert!(reason.contains("directory"), "{reason}");
}

#[test]
fn the_guest_is_small_and_its_steps_have_names() {
    assert!((64..1024).contains(&guest::code().len()), "{}", guest::code().len());
    assert_eq!(guest::step(3), "fwait");
    assert_eq!(guest::step(u64::MAX), guest::step(0));
}

#[test]
fn an_answer_is_given_whatever_this_machine_has() {
    let verdict = judge("/dev/kvm");
    println!("/dev/kvm of this machine: {verdict:?}");
    assert!(!verdict.reason.is_empty());
}
