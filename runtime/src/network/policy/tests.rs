#![allow(clippy::unwrap_used)]
use std::fs;

use tempfile::TempDir;

use super::*;

const GOOD: &str = "version = 1\n";

fn node(files: &[(&str, &str)]) -> (TempDir, NetworkConfig) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("policies")).unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let config = NetworkConfig {
        policy: Some(dir.path().join("policy.toml")),
        policies: dir.path().join("policies"),
        ..NetworkConfig::default()
    };
    (dir, config)
}

fn told(error: PolicyError) -> (ErrorKind, String) {
    (error.kind(), crate::failure::chain(&error))
}

#[test]
fn the_nodes_file_may_be_missing_unless_it_is_named() {
    let (dir, config) = node(&[]);
    let (kind, error) = told(of_node(&config).unwrap_err());
    assert_eq!(kind, ErrorKind::FailedPrecondition);
    assert!(error.contains("no sandbox gets a network: cannot read"), "{error}");
    // The default's name is the host's; only that it may be missing is seen here.
    assert!(!NetworkConfig::default().must_have_policy());
    fs::write(dir.path().join("policy.toml"), GOOD).unwrap();
    assert_eq!(of_node(&config).unwrap(), PolicySource::Text(GOOD.to_owned()));
}

#[test]
fn a_broken_node_file_says_line_and_key() {
    let (_dir, config) = node(&[("policy.toml", "version = 1\n\ndefualts = {}\n")]);
    let (kind, error) = told(of_node(&config).unwrap_err());
    assert_eq!(kind, ErrorKind::FailedPrecondition);
    assert!(error.contains("policy.toml: line 3: defualts: unknown field"), "{error}");
}

#[test]
fn a_pod_names_a_policy_or_brings_it() {
    let (_dir, config) = node(&[("policies/web.toml", GOOD)]);
    let text = |text: &str| PolicySource::Text(text.to_owned());
    assert_eq!(of_pod(&config, None).unwrap(), PolicySource::Unset);
    assert_eq!(of_pod(&config, Some("web")).unwrap(), text(GOOD));
    for inline in
        ["version = 1", " {\"version\": 1}", "version = 1\n[defaults]\negress = \"allow\"\n"]
    {
        assert_eq!(of_pod(&config, Some(inline)).unwrap(), text(inline));
    }
    let (kind, error) = told(of_pod(&config, Some("version = 2")).unwrap_err());
    assert_eq!(kind, ErrorKind::InvalidArgument);
    assert!(error.contains("that was given is not valid") && error.contains("version"), "{error}");
}

#[test]
fn an_unknown_name_lists_those_there_are() {
    let (_dir, config) = node(&[]);
    let (kind, error) = told(of_pod(&config, Some("web")).unwrap_err());
    assert_eq!(kind, ErrorKind::InvalidArgument);
    assert!(error.ends_with("web.toml does not exist; there are none"), "{error}");
    for name in ["b.toml", "a.toml", ".hidden.toml", "note.txt"] {
        fs::write(config.policies.join(name), GOOD).unwrap();
    }
    assert!(told(of_pod(&config, Some("web")).unwrap_err()).1.ends_with("there are a, b"));
    for n in 0..100 {
        fs::write(config.policies.join(format!("n{n:02}.toml")), GOOD).unwrap();
    }
    assert!(told(of_pod(&config, Some("web")).unwrap_err()).1.ends_with("n17 and 82 more"));
}

#[test]
fn a_name_is_no_path() {
    let (dir, config) = node(&[("secret.toml", GOOD), ("policies/x.toml", "nonsense")]);
    std::os::unix::fs::symlink(dir.path(), config.policies.join("up")).unwrap();
    let long = "x".repeat(65);
    for name in ["../secret", "up/secret", "/etc/passwd", ".", "..", "", "a b", "a\0b", ".x", &long]
    {
        let error = of_pod(&config, Some(name)).unwrap_err();
        assert!(matches!(error, PolicyError::Name(_)), "{name:?}: {error}");
    }
    let (kind, error) = told(of_pod(&config, Some("x")).unwrap_err());
    assert_eq!(kind, ErrorKind::FailedPrecondition);
    assert!(error.contains("policy \"x\" cannot be used") && error.contains("line 1"), "{error}");
}
