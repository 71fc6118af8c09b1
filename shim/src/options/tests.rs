#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn any(type_url: &str, value: &[u8]) -> Any {
    Any { type_url: type_url.to_owned(), value: value.to_vec(), ..Default::default() }
}

/// type_url = "sandbox", config_path = "/c", config_body = "x", and a number
/// in a field that a later version might have.
const RUNTIME_OPTIONS: &[u8] = b"\x0a\x07sandbox\x12\x02/c\x1a\x01x\x20\x05";

#[test]
fn every_known_kind_is_accepted() {
    let runc = oci::Options {
        binary_name: "runc".into(),
        systemd_cgroup: true,
        shim_cgroup: "/shims".into(),
        ..Default::default()
    };
    let runc = runc.write_to_bytes().unwrap();
    let path = |path: &str| Options { config_path: Some(path.into()), ..Options::default() };
    let cgroup = Options { shim_cgroup: Some("/shims".into()), ..Options::default() };
    let table: [(Option<Any>, Options); 9] = [
        (None, Options::default()),
        (Some(any("", b"")), Options::default()),
        (Some(any("runtimeoptions.v1.Options", b"")), Options::default()),
        (Some(any("runtimeoptions.v1.Options", RUNTIME_OPTIONS)), path("/c")),
        (Some(any("cri.runtimeoptions.v1.Options", RUNTIME_OPTIONS)), path("/c")),
        (Some(any("containerd.runc.v1.Options", b"")), Options::default()),
        (Some(any("containerd.runc.v1.Options", &runc)), cgroup.clone()),
        (Some(any("type.googleapis.com/containerd.runc.v1.Options", &runc)), cgroup),
        (Some(any("a.host/runtimeoptions.v1.Options", b"\x12\x00")), Options::default()),
    ];
    for (given, expected) in table {
        assert_eq!(read(given.as_ref()), Ok(expected), "{given:?}");
    }
}

#[test]
fn others_are_refused_by_name() {
    let error = read(Some(&any("windows.Options", b""))).unwrap_err();
    assert_eq!(error, OptionsError::Unknown("windows.Options".into()));
    assert!(error.to_string().contains("windows.Options"));
    assert!(matches!(read(Some(&any("", b"x"))), Err(OptionsError::Unknown(_))));
}

#[test]
fn malformed_ones_are_refused_by_name() {
    for name in ["runtimeoptions.v1.Options", "containerd.runc.v1.Options"] {
        // A length beyond the end, a tag without value, a wrong wire type 7,
        // text that is not UTF-8 (field 2 is a string in one, bool in the other).
        for bytes in [&b"\x12\x7f/c"[..], b"\x12", b"\x17\x01", b"\x1a\xff\xff\xff\xff\x0f"] {
            let error = read(Some(&any(name, bytes))).expect_err(name);
            assert!(matches!(error, OptionsError::Malformed { .. }), "{bytes:?} {error}");
            assert!(error.to_string().contains(name));
        }
    }
    let error = read(Some(&any("runtimeoptions.v1.Options", b"\x12\x02\xff\xfe")));
    assert!(matches!(error, Err(OptionsError::Malformed { .. })));
}
