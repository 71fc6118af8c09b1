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

#[test]
fn the_network_section_is_read() {
    let config = parse(
        "[network]\nallow_host = true\ndeveloper = false\ndeveloper_addresses = ['192.168.9.5/24']\n\
         policy = '/p.toml'\npolicies = '/p'\naudit_dir = '/a'\ncluster = ['10.96.0.0/12']\n",
    );
    let network = config.unwrap().network;
    assert!(network.allow_host && !network.developer);
    assert_eq!(network.developer_addresses[0].to_string(), "192.168.9.5/24");
    assert_eq!(network.policy_file(), Path::new("/p.toml"));
    assert_eq!(network.cluster[0].to_string(), "10.96.0.0/12");
    let defaults = NetworkConfig::default();
    assert!(!defaults.allow_host && defaults.developer);
    assert_eq!(defaults.policy_file(), Path::new("/etc/sandbox/policy.toml"));
}

#[test]
fn a_network_that_cannot_be_is_named() {
    let refused = |line: &str| refused(&format!("[network]\n{line}"));
    assert!(refused("policies = 'p'").contains("network.policies must be an absolute path"));
    assert!(refused("cluster = ['10.96.0.1/12']").contains("write 10.96.0.0/12"));
    assert!(refused("cluster = ['10.96.0.0/33']").contains("cluster"));
    assert!(refused("developer_addresses = []").contains("set developer = false"));
    for odd in ["10.0.0.0/24", "10.0.0.1/32", "127.0.0.1/8", "::1/64", "224.0.0.5/24"] {
        let error = refused(&format!("developer_addresses = ['{odd}']"));
        assert!(error.contains(&format!("{odd} is not the address of a host")), "{error}");
    }
    let two = refused("developer_addresses = ['10.0.2.15/24', '10.0.3.15/24']");
    assert!(two.contains("one IPv4 and one IPv6"), "{two}");
    assert!(refused("alow_host = true").contains("unknown field `alow_host`"));
}

/// The keys that a table has, as the error for an unknown one lists them.
fn keys(table: &str) -> Vec<String> {
    let error = refused(&format!("{table}\nno_such_key = 1"));
    let (_, expected) = error.split_once("expected").unwrap();
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// deploy/config.toml has every key as a comment, with its default.
#[test]
fn the_installed_configuration_has_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config.toml");
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(parse(&text).unwrap(), Config::default());
    let is_setting = |line: &&str| line.starts_with('[') || line.contains(" = ");
    let set: String = text
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(is_setting)
        .map(|line| format!("{line}\n"))
        .collect();
    let config = parse(&set).unwrap();
    let mut defaults = Config::default();
    // These have no default value to show.
    defaults.network.policy = config.network.policy.clone();
    defaults.network.audit_dir = config.network.audit_dir.clone();
    assert_eq!(config, defaults);
    for table in ["", "[vm]", "[network]"] {
        for key in keys(table) {
            let set = set.lines().any(|line| {
                line.strip_prefix(&key).is_some_and(|rest| rest.starts_with(" = "))
                    || line == format!("[{key}]")
            });
            assert!(set, "deploy/config.toml lacks `{key}` of {table}");
        }
    }
}
