#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn ask(input: &[u8]) -> Result<RuntimeInfo, InfoError> {
    let mut out = Vec::new();
    run(input, &mut out)?;
    Ok(RuntimeInfo::parse_from_bytes(&out).unwrap())
}

#[test]
fn it_names_the_runtime_and_its_version() {
    let info = ask(b"").unwrap();
    assert_eq!(info.name, "io.sandbox.v1");
    assert_eq!(info.version.version, env!("CARGO_PKG_VERSION"));
    assert!(info.options.is_none());
    assert_eq!(info.annotations["containerd.io/runtime-allow-mounts"], "erofs,format/*,mkdir/*");
}

#[test]
fn it_gives_the_options_back() {
    let any = Any { type_url: "containerd.runc.v1.Options".into(), ..Default::default() };
    let info = ask(&any.write_to_bytes().unwrap()).unwrap();
    assert_eq!(info.options, MessageField::some(any));
}

#[test]
fn it_refuses_what_it_cannot_read() {
    assert!(matches!(ask(b"\xff"), Err(InfoError::Message(_))));
    let any = Any { type_url: "x.Options".into(), ..Default::default() };
    let error = ask(&any.write_to_bytes().unwrap());
    assert!(matches!(error, Err(InfoError::Options(_))));
}

#[test]
fn the_version_is_for_people() {
    let mut out = Vec::new();
    version(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("containerd-shim-sandbox-v1:\n  Version:  0."), "{text}");
}
