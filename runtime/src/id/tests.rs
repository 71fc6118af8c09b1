#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn ordinary_ids_are_taken() {
    let hex = "f".repeat(64);
    let longest = "a".repeat(MAX_LEN);
    for id in ["a", "demo", "a.b-c_d", "0", "k8s.io", "a--b", &hex, &longest] {
        assert_eq!(check_container(id), Ok(()), "{id:?}");
    }
}

#[test]
fn ids_that_climb_or_confuse_are_refused_by_name() {
    let bad = [
        "..",
        "../x",
        "a/../b",
        "/etc",
        "a/b",
        ".",
        ".a",
        "a.",
        "-a",
        "a-",
        "_a",
        "a b",
        "a\0b",
        "a\nb",
        "é",
        "a\u{202e}b",
        "名",
        "a*",
    ];
    for id in bad {
        let error = check_container(id).unwrap_err();
        assert_eq!(error, IdError::Malformed { what: "container", id: id.to_owned() });
        assert!(error.to_string().contains(&format!("{id:?}")), "{error}");
    }
}

#[test]
fn long_ids_are_refused_with_their_length() {
    let error = check_container(&"a".repeat(300)).unwrap_err();
    assert!(error.to_string().contains("300 bytes"), "{error}");
    assert!(error.to_string().len() < 150);
    assert!(check_container(&"a".repeat(MAX_LEN + 1)).is_err());
}

#[test]
fn an_empty_id_says_which() {
    assert_eq!(PodId::new("", "x").unwrap_err().to_string(), "namespace id is empty");
    assert_eq!(PodId::new("x", "").unwrap_err().to_string(), "pod id is empty");
}

#[test]
fn directory_names_are_short_and_differ() {
    let a = PodId::new("default", "a").unwrap().directory();
    let b = PodId::new("k8s.io", "a").unwrap().directory();
    assert_eq!(a.len(), 16);
    assert_ne!(a, b);
    assert!(a.bytes().all(|c| c.is_ascii_hexdigit()));
}
