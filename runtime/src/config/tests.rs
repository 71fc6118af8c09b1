#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, text).unwrap();
    Config::from_file(&path)
}

fn refused(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn every_key_is_read() {
    let config = parse(
        "engine = 'qemu'\nkernel = '/k'\ninitramfs = '/i'\nvmm = '/v'\nqemu = '/q'\n\
         state_dir = '/s'\nboot_timeout_seconds = 7\n[vm]\nvcpus = 3\nmemory_mib = 256\n",
    )
    .unwrap();
    assert_eq!(config.engine, EngineChoice::Qemu);
    assert_eq!(config.kernel, Path::new("/k"));
    assert_eq!(config.qemu, Path::new("/q"));
    assert_eq!(config.boot_timeout(), Duration::from_secs(7));
    assert_eq!(config.vm, VmDefaults { vcpus: 3, memory_mib: 256 });
}

#[test]
fn an_unknown_key_is_named() {
    assert!(refused("kernle = '/k'").contains("unknown field `kernle`"));
    assert!(refused("[vm]\nmemory = 1").contains("unknown field `memory`"));
}

#[test]
fn a_wrong_type_or_value_is_named() {
    assert!(refused("kernel = 7").contains("kernel = 7"));
    assert!(refused("engine = 'xen'").contains("unknown variant `xen`"));
    assert!(refused("kernel = 'vmlinux'").contains("kernel must be an absolute path"));
    assert!(refused("boot_timeout_seconds = 0").contains("boot_timeout_seconds"));
    assert!(refused("[vm]\nvcpus = 99").contains("99 vCPUs"));
    let long = format!("state_dir = '/{}'", "x".repeat(100));
    assert!(refused(&long).contains("state_dir has 101 bytes"));
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::from_file(Path::new("/nonexistent/sandbox.toml")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/sandbox.toml"));
}
