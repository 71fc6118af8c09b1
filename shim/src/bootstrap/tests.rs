#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use containerd_shim_protos::bootstrap_api::Extension;
use containerd_shim_protos::protobuf::EnumOrUnknown;

use super::*;

const ADDRESS: &str = "unix:///run/containerd/s/abc";

fn flags() -> Flags {
    Flags {
        namespace: "default".into(),
        id: "web".into(),
        address: "/run/containerd/containerd.sock".into(),
        publish_binary: "/usr/bin/containerd".into(),
        ..Flags::default()
    }
}

fn env() -> Environment {
    Environment {
        ttrpc_address: "/run/containerd/containerd.sock.ttrpc".into(),
        grpc_address: "/run/containerd/containerd.sock".into(),
        has_max_version: true,
    }
}

fn params() -> BootstrapParams {
    BootstrapParams {
        instance_id: "web".into(),
        namespace: "default".into(),
        containerd_version: "2.4.2".into(),
        containerd_ttrpc_address: "unix:///run/c/c.sock.ttrpc".into(),
        containerd_grpc_address: "/run/c/c.sock".into(),
        containerd_binary: "/opt/containerd".into(),
        ..Default::default()
    }
}

fn options_any(config_path: &str) -> Any {
    let mut value = vec![0x12, config_path.len() as u8];
    value.extend_from_slice(config_path.as_bytes());
    Any { type_url: "runtimeoptions.v1.Options".into(), value, ..Default::default() }
}

fn bytes(message: &impl Message) -> Vec<u8> {
    message.write_to_bytes().unwrap()
}

#[test]
fn a_message_for_this_container_is_the_newest_dialect() {
    let request = read(&flags(), &Environment::default(), &bytes(&params())).unwrap();
    assert_eq!(request.dialect, DialectHint::Certain(Dialect::Message));
    assert_eq!(request.ttrpc_address, "/run/c/c.sock.ttrpc");
    assert_eq!(request.grpc_address, "/run/c/c.sock");
    assert_eq!(request.binary, PathBuf::from("/opt/containerd"));
    assert_eq!(request.socket_dir, PathBuf::from(SOCKET_DIR));
    assert!(!request.debug);
}

#[test]
fn a_message_brings_level_options_and_socket_folder() {
    let mut params = params();
    params.log_level = EnumOrUnknown::from_i32(-5);
    params.socket_dir = Some("/run/other".into());
    for any in [
        Any { type_url: "some.other.Config".into(), ..Default::default() },
        options_any("/etc/mine.toml"),
    ] {
        params.extensions.push(Extension { value: Some(any).into(), ..Default::default() });
    }
    let request = read(&flags(), &env(), &bytes(&params)).unwrap();
    assert!(request.debug);
    assert_eq!(request.socket_dir, PathBuf::from("/run/other"));
    assert_eq!(request.options.config_path.as_deref(), Some("/etc/mine.toml"));
}

#[test]
fn a_message_for_another_container_is_refused() {
    let mut params = params();
    params.instance_id = "db".into();
    let error = read(&flags(), &env(), &bytes(&params)).unwrap_err();
    assert!(matches!(error, BootstrapError::Mismatch { .. }));
    assert!(error.to_string().contains("default/db"), "{error}");
}

#[test]
fn options_alone_are_the_older_dialects() {
    let stdin = bytes(&options_any("/etc/mine.toml"));
    let request = read(&flags(), &env(), &stdin).unwrap();
    assert_eq!(request.dialect, DialectHint::ByVersion);
    assert_eq!(request.options.config_path.as_deref(), Some("/etc/mine.toml"));
    assert_eq!(request.ttrpc_address, "/run/containerd/containerd.sock.ttrpc");
    assert_eq!(request.grpc_address, "/run/containerd/containerd.sock");

    let old = Environment { has_max_version: false, ..env() };
    let request = read(&flags(), &old, &stdin).unwrap();
    assert_eq!(request.dialect, DialectHint::Certain(Dialect::Bare));
}

#[test]
fn an_empty_stdin_is_an_older_dialect_without_options() {
    let request = read(&flags(), &env(), b"").unwrap();
    assert_eq!(request.dialect, DialectHint::ByVersion);
    assert_eq!(request.options, Options::default());
}

#[test]
fn the_address_may_be_in_the_environment_only() {
    let bare = Flags { address: String::new(), ..flags() };
    let request = read(&bare, &env(), b"").unwrap();
    assert_eq!(request.grpc_address, "/run/containerd/containerd.sock");
}

#[test]
fn what_is_missing_or_malformed_is_refused() {
    let no_id = Flags { id: String::new(), ..flags() };
    assert!(matches!(read(&no_id, &env(), b""), Err(BootstrapError::Missing("id"))));
    let no_ns = Flags { namespace: String::new(), ..flags() };
    assert!(matches!(read(&no_ns, &env(), b""), Err(BootstrapError::Missing("namespace"))));
    assert!(matches!(read(&flags(), &env(), b"\xff\xff\xff"), Err(BootstrapError::Undecodable(_))));
    let unknown = Any { type_url: "x.Options".into(), ..Default::default() };
    assert!(matches!(
        read(&flags(), &env(), &bytes(&unknown)),
        Err(BootstrapError::Options(OptionsError::Unknown(_)))
    ));
    for dir in ["relative", &format!("/{}", "x".repeat(MAX_SOCKET_DIR))] {
        let mut params = params();
        params.socket_dir = Some(dir.into());
        let error = read(&flags(), &env(), &bytes(&params));
        assert!(matches!(error, Err(BootstrapError::SocketDir(_))), "{dir}");
    }
}

#[test]
fn answers_byte_by_byte() {
    assert_eq!(answer(Dialect::Bare, ADDRESS).unwrap(), ADDRESS.as_bytes());
    assert_eq!(
        answer(Dialect::Json, ADDRESS).unwrap(),
        br#"{"version":3,"address":"unix:///run/containerd/s/abc","protocol":"ttrpc"}"#
    );
    let mut expected = vec![0x08, 3, 0x12, ADDRESS.len() as u8];
    expected.extend_from_slice(ADDRESS.as_bytes());
    expected.extend_from_slice(b"\x1a\x05ttrpc");
    // extensions, value: type_url, value: types, transforms.
    expected.extend_from_slice(b"\x32\x3e\x0a\x3c\x0a\x22containerd.types.MountCapabilities");
    expected.extend_from_slice(b"\x12\x16\x0a\x05erofs\x12\x06format\x12\x05mkdir");
    assert_eq!(answer(Dialect::Message, ADDRESS).unwrap(), expected);
}

#[test]
fn the_version_decides_between_json_and_bare() {
    let table = [
        ("containerd github.com/containerd/containerd/v2 v2.1.4 abc", Dialect::Json),
        ("containerd github.com/containerd/containerd/v2 2.0.0-rc.1 ", Dialect::Json),
        (
            "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3",
            Dialect::Bare,
        ),
        ("containerd containerd.io 1.7.27 05044ec0a9a75232cad458027ca83437aae3f4da", Dialect::Bare),
        ("k3s version v1.30.1+k3s1 (abc)", Dialect::Bare),
        ("", Dialect::Bare),
        ("nonsense", Dialect::Bare),
    ];
    for (output, dialect) in table {
        assert_eq!(dialect_of_version(output), dialect, "{output:?}");
    }
}
