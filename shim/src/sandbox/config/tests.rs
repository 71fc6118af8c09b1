#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use containerd_shim_protos::protobuf::MessageField;

use super::*;
use crate::messages::cri::{
    LinuxContainerResources, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceOption,
};

fn request(config: &PodSandboxConfig) -> CreateSandboxRequest {
    let options = Any {
        type_url: POD_SANDBOX_CONFIG.to_owned(),
        value: config.write_to_bytes().unwrap(),
        ..Default::default()
    };
    CreateSandboxRequest {
        sandbox_id: "pod".to_owned(),
        options: MessageField::some(options),
        ..Default::default()
    }
}

fn asked(config: &PodSandboxConfig) -> PodSpec {
    let dir = tempfile::tempdir().unwrap();
    pod_spec(&request(config), dir.path(), false).unwrap()
}

fn linux(linux: LinuxPodSandboxConfig) -> PodSandboxConfig {
    PodSandboxConfig { linux: MessageField::some(linux), ..Default::default() }
}

#[test]
fn sysctls_are_the_pods() {
    let sysctls = HashMap::from([("net.core.somaxconn".to_owned(), "77".to_owned())]);
    let config = linux(LinuxPodSandboxConfig { sysctls: sysctls.clone(), ..Default::default() });
    assert_eq!(asked(&config).sysctls, sysctls);
}

#[test]
fn all_that_the_cri_says_is_taken() {
    let resources = LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 150_000,
        memory_limit_in_bytes: 1 << 30,
        ..Default::default()
    };
    let mut config = linux(LinuxPodSandboxConfig {
        cgroup_parent: "/kubepods/pod7".to_owned(),
        resources: MessageField::some(resources),
        ..Default::default()
    });
    config.hostname = "web-0".to_owned();
    config.annotations = HashMap::from([("io.sandbox.vcpus".to_owned(), "2".to_owned())]);
    let mut request = request(&config);
    request.netns_path = "/run/netns/x".to_owned();
    request.annotations = HashMap::from([("a".to_owned(), "b".to_owned())]);
    let dir = tempfile::tempdir().unwrap();
    let spec = pod_spec(&request, dir.path(), false).unwrap();
    let expected = PodSpec {
        bundle: dir.path().to_owned(),
        hostname: "web-0".to_owned(),
        annotations: HashMap::from([
            ("io.sandbox.vcpus".to_owned(), "2".to_owned()),
            ("a".to_owned(), "b".to_owned()),
        ]),
        cpus: Some(1.5),
        memory: Some(1 << 30),
        cgroups_path: Some("/kubepods/pod7/pod".to_owned()),
        network: NetworkNamespace::Path("/run/netns/x".into()),
        ..PodSpec::default()
    };
    assert_eq!(spec, expected);
}

#[test]
fn nothing_said_is_a_network_of_its_own_and_no_limits() {
    let dir = tempfile::tempdir().unwrap();
    let spec = pod_spec(&CreateSandboxRequest::new(), dir.path(), false).unwrap();
    let expected = PodSpec {
        bundle: dir.path().to_owned(),
        network: NetworkNamespace::New,
        ..PodSpec::default()
    };
    assert_eq!(spec, expected);
}

#[test]
fn the_nodes_network_is_the_hosts() {
    let options = NamespaceOption { network: NamespaceMode::NODE.into(), ..Default::default() };
    let context = LinuxSandboxSecurityContext {
        namespace_options: MessageField::some(options),
        ..Default::default()
    };
    let config = linux(LinuxPodSandboxConfig {
        security_context: MessageField::some(context),
        ..Default::default()
    });
    assert_eq!(asked(&config).network, NetworkNamespace::Host);
}

#[test]
fn a_slice_is_named_in_systemds_way() {
    let of = |parent: &str| cgroup(parent, "pod");
    assert_eq!(of(""), None);
    assert_eq!(of("/a/"), Some("/a/pod".to_owned()));
    let slice = "/kubepods.slice/kubepods-pod7.slice";
    assert_eq!(of(slice), Some("kubepods-pod7.slice:cri-containerd:pod".to_owned()));
}

#[test]
fn a_spec_in_the_bundle_is_the_ground() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"ociVersion":"1.1.0","hostname":"a","annotations":{"x":"y"},
        "linux":{"namespaces":[{"type":"network","path":"/run/netns/spec"}]}}"#;
    fs::write(dir.path().join("config.json"), text).unwrap();
    let spec = pod_spec(&CreateSandboxRequest::new(), dir.path(), true).unwrap();
    assert_eq!((spec.hostname.as_str(), spec.annotations["x"].as_str()), ("a", "y"));
    assert_eq!(spec.network, NetworkNamespace::Path("/run/netns/spec".into()));
    let config = PodSandboxConfig { hostname: "b".to_owned(), ..Default::default() };
    assert_eq!(pod_spec(&request(&config), dir.path(), true).unwrap().hostname, "b");
}

#[test]
fn servers_become_a_file() {
    let dns = DNSConfig {
        servers: vec!["10.96.0.10".to_owned(), "fd00::a".to_owned()],
        searches: vec!["a.svc".to_owned(), "svc".to_owned()],
        options: vec!["ndots:5".to_owned()],
        ..Default::default()
    };
    let config = PodSandboxConfig { dns_config: MessageField::some(dns), ..Default::default() };
    let dir = tempfile::tempdir().unwrap();
    let path = pod_spec(&request(&config), dir.path(), false).unwrap().resolv_conf.unwrap();
    let text = "search a.svc svc\nnameserver 10.96.0.10\nnameserver fd00::a\noptions ndots:5\n";
    assert_eq!(fs::read_to_string(path).unwrap(), text);
    assert_eq!(servers(&DNSConfig::default()), None);
}

#[test]
fn options_that_are_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut request = request(&PodSandboxConfig::default());
    let options = request.options.mut_or_insert_default();
    options.value = vec![0xff; 4];
    let error = pod_spec(&request, dir.path(), false).unwrap_err();
    assert!(matches!(error, ConfigError::Undecodable(_)), "{error}");
    request.options.mut_or_insert_default().type_url = "x".repeat(10_000);
    let error = pod_spec(&request, dir.path(), false).unwrap_err();
    assert!(error.to_string().len() < 400, "{error}");
}
