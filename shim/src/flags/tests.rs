#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn words(line: &str) -> Result<Flags, FlagError> {
    parse(line.split_whitespace().map(OsString::from))
}

#[test]
fn takes_what_containerd_1_6_gives_to_start() {
    let flags = words(
        "-namespace default -address /run/containerd/containerd.sock \
         -publish-binary /usr/bin/containerd -id web -debug start",
    )
    .unwrap();
    assert_eq!(
        flags,
        Flags {
            debug: true,
            namespace: "default".into(),
            id: "web".into(),
            address: "/run/containerd/containerd.sock".into(),
            publish_binary: "/usr/bin/containerd".into(),
            action: Action::Start,
            ..Flags::default()
        }
    );
}

#[test]
fn takes_what_containerd_gives_to_delete() {
    let flags = words("-namespace k8s.io -address a -publish-binary b -id x -bundle /b/x delete");
    let flags = flags.unwrap();
    assert_eq!(flags.action, Action::Delete);
    assert_eq!(flags.bundle, PathBuf::from("/b/x"));
}

#[test]
fn one_dash_or_two_and_both_ways_to_give_a_value() {
    for line in ["-id web", "--id web", "-id=web", "--id=web"] {
        assert_eq!(words(line).unwrap().id, "web", "{line}");
    }
    assert_eq!(words("-id=a=b").unwrap().id, "a=b");
    assert_eq!(words("-id -dash").unwrap().id, "-dash");
    assert_eq!(words("-id=").unwrap().id, "");
}

#[test]
fn booleans_take_no_word() {
    let flags = words("-debug start").unwrap();
    assert!(flags.debug);
    assert_eq!(flags.action, Action::Start);
    assert!(!words("-debug=false start").unwrap().debug);
    assert!(words("-v").unwrap().version);
    assert!(words("-version").unwrap().version);
    assert!(words("-info").unwrap().info);
}

#[test]
fn without_an_action_it_serves() {
    assert_eq!(words("-id web").unwrap().action, Action::Serve);
}

#[test]
fn words_after_the_action_are_its_own() {
    let flags = words("-id web start -id other").unwrap();
    assert_eq!(flags.id, "web");
}

#[test]
fn refusals_name_the_flag() {
    assert_eq!(words("-nope 1"), Err(FlagError::Unknown("nope".into())));
    assert_eq!(words("-id"), Err(FlagError::NoValue("id".into())));
    assert_eq!(words("run"), Err(FlagError::Action("run".into())));
    assert_eq!(
        words("-debug=maybe"),
        Err(FlagError::NotBoolean { flag: "debug".into(), value: "maybe".into() })
    );
    let raw = std::os::unix::ffi::OsStringExt::from_vec(vec![b'-', 0xff]);
    assert!(matches!(parse([raw]), Err(FlagError::NotUtf8(_))));
}
