#![allow(clippy::unwrap_used)]
use std::fs;

use sandbox_vm_spec::network::PolicySource;

use super::*;
use crate::failure::ErrorKind;

fn plan(config: NetworkConfig, spec: PodSpec) -> Result<Plan, NetworkError> {
    Plan::make(&config, &id(), &spec)
}

fn id() -> PodId {
    PodId::new("test", "one").unwrap()
}

fn spec(network: NetworkNamespace) -> PodSpec {
    PodSpec { network, ..PodSpec::default() }
}

fn told(error: NetworkError) -> (ErrorKind, String) {
    (error.kind(), crate::failure::chain(&error))
}

#[test]
fn the_hosts_network_takes_the_nodes_word() {
    let own = PathBuf::from(format!("/proc/{}/ns/net", std::process::id()));
    for asked in [NetworkNamespace::Host, NetworkNamespace::Path(own)] {
        let Err(error) = choose(&NetworkConfig::default(), &id(), &spec(asked.clone())) else {
            // Entering one's own namespace needs root, and says so otherwise.
            unreachable!("{asked:?} is allowed");
        };
        let (kind, error) = told(error);
        assert_eq!(kind, ErrorKind::FailedPrecondition);
        assert!(error.contains("allow_host = true") || error.contains("not a network"), "{error}");
    }
    let allowed = NetworkConfig { allow_host: true, ..NetworkConfig::default() };
    assert_eq!(choose(&allowed, &id(), &spec(NetworkNamespace::Host)).unwrap().0, Mode::Host);
}

/// Puts an interface into the plan's namespace, as hooks and CNI do.
fn set_up(plan: &Plan) {
    let commands = [
        "link add eth0 type veth peer name other",
        "link set eth0 up",
        "address add 10.4.0.7/24 dev eth0",
    ];
    let set_up = || {
        for command in commands {
            let done = std::process::Command::new("ip").args(command.split(' ')).status();
            assert!(done.unwrap().success());
        }
    };
    plan.namespace().inside(set_up).unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_namespace_that_nobody_furnishes_is_a_developers() {
    let plan = plan(NetworkConfig::default(), spec(NetworkNamespace::New)).unwrap();
    assert_eq!(plan.mode(), Mode::Developer);
    // Whoever sets up it sets up that of the pod and not the host's.
    assert!(!plan.namespace().is_host().unwrap() && plan.is_set_up_later());
    assert!(plan.outside().unwrap().is_host().unwrap());
    let (setting, request) = plan.settle().unwrap().unwrap();
    let own: Vec<IpAddr> = ["10.0.2.15", "fd00::15"].iter().map(|ip| ip.parse().unwrap()).collect();
    assert_eq!((&setting.guest, setting.bound.len()), (&own, 0));
    assert!(setting.outside);
    assert_eq!(setting.gateway4.to_string(), "10.0.2.2");
    assert!(setting.host.iter().all(|ip| !ip.is_loopback()));
    assert_eq!((setting.node, setting.pod), (PolicySource::Unset, PolicySource::Unset));
    assert_eq!((request.mac, request.mtu), (plan.link().mac.to_vec(), 1500));
    assert_eq!(request.addresses[0].ip, [10, 0, 2, 15]);
    assert_eq!(request.routes[0].gateway, [10, 0, 2, 2]);
    assert_eq!(request.gateway_mac, GATEWAY_MAC);
}

#[test]
#[ignore = "needs root"]
fn a_namespace_that_somebody_furnishes_is_the_pods_own() {
    let plan = plan(NetworkConfig::default(), spec(NetworkNamespace::New)).unwrap();
    set_up(&plan);
    let (setting, _) = plan.settle().unwrap().unwrap();
    assert_eq!(setting.guest, ["10.4.0.7".parse::<IpAddr>().unwrap()]);
    assert_eq!((&setting.bound, setting.outside), (&setting.guest, false));
}

/// `docker run --network none` is to stay without.
#[test]
#[ignore = "needs root"]
fn a_namespace_that_docker_does_not_furnish_has_loopback_alone() {
    let docker = PodId::new("moby", "one").unwrap();
    let spec = spec(NetworkNamespace::New);
    let plan = Plan::make(&NetworkConfig::default(), &docker, &spec).unwrap();
    assert!(plan.is_set_up_later() && plan.outside().is_none());
    assert_eq!(plan.settle().unwrap(), None);
}

#[test]
fn a_pods_mac_address_is_its_own_and_the_same_each_time() {
    let of = |id: &str| link(&PodId::new("test", id).unwrap(), None).mac;
    assert_eq!(of("one"), of("one"));
    assert_ne!(of("one"), of("two"));
    assert_eq!(of("one")[0], 0x0a);
    let interface = |mac| Interface { mac: Some(mac), ..developer::interface(&[]) };
    let own = |mac| link(&PodId::new("test", "one").unwrap(), Some(&interface(mac))).mac;
    assert_eq!(own([2, 0, 0, 0, 0, 9]), [2, 0, 0, 0, 0, 9]);
    assert_eq!(own(GATEWAY_MAC), of("one"));
}

#[test]
fn servers_are_those_that_the_pod_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    fs::write(&path, "nameserver 10.96.0.10\n").unwrap();
    let given = resolv(Mode::Given, Some(&path));
    assert_eq!(given.servers, ["10.96.0.10".parse::<IpAddr>().unwrap()]);
    assert_eq!(resolv(Mode::Developer, Some(&path)), given);
    // What an image brings is not looked at.
    assert_eq!(resolv(Mode::Given, None), Resolv::default());
    assert_eq!(resolv(Mode::Given, Some(Path::new("/nonexistent"))), Resolv::default());
}

#[test]
fn a_broken_policy_is_a_refusal_before_anything_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    fs::write(&file, "version = 1\nnonsense\n").unwrap();
    let config = NetworkConfig { policy: Some(file), ..NetworkConfig::default() };
    let (kind, error) = told(plan(config, spec(NetworkNamespace::New)).unwrap_err());
    assert_eq!(kind, ErrorKind::FailedPrecondition);
    assert!(error.contains("policy.toml: line 2"), "{error}");
    let mut asks = spec(NetworkNamespace::New);
    asks.annotations.insert(policy::ANNOTATION.to_owned(), "version = 7".to_owned());
    let (kind, _) = told(plan(NetworkConfig::default(), asks).unwrap_err());
    assert_eq!(kind, ErrorKind::InvalidArgument);
}

#[test]
#[ignore = "needs root"]
fn hooks_furnish_a_namespace_of_the_pods_own() {
    let dir = tempfile::tempdir().unwrap();
    let resolv_conf = dir.path().join("resolv.conf");
    fs::write(&resolv_conf, "").unwrap();
    let spec = PodSpec {
        has_create_hooks: true,
        resolv_conf: Some(resolv_conf.clone()),
        ..spec(NetworkNamespace::New)
    };
    let plan = plan(NetworkConfig::default(), spec).unwrap();
    assert_eq!(plan.mode(), Mode::Hooks);
    assert!(!plan.namespace().is_host().unwrap());
    // Hooks that make no network, as with `nerdctl run --network none`, mean it.
    assert_eq!(plan.settle().unwrap(), None);
    set_up(&plan);
    fs::write(&resolv_conf, "nameserver 127.0.0.11\n").unwrap();
    let (setting, request) = plan.settle().unwrap().unwrap();
    assert_eq!(setting.guest, ["10.4.0.7".parse::<IpAddr>().unwrap()]);
    assert_eq!(setting.bound, setting.guest);
    // Docker's own resolver is in the namespace, and not in the guest.
    assert_eq!(setting.resolvers, ["127.0.0.11".parse::<IpAddr>().unwrap()]);
    let last = request.routes.last().unwrap();
    assert_eq!(last.destination.ip, [127, 0, 0, 11]);
    assert_eq!(last.source, [10, 4, 0, 7]);
    assert_eq!(request.interface, "eth0");
    // The driver was told at the boot, before the interface was there.
    assert_eq!(request.mac, plan.link().mac);
}

#[test]
#[ignore = "needs root"]
fn without_the_developer_network_there_is_loopback_alone() {
    let config = NetworkConfig { developer: false, ..NetworkConfig::default() };
    let plan = plan(config, spec(NetworkNamespace::New)).unwrap();
    assert_eq!(plan.mode(), Mode::Loopback);
    assert!(!plan.namespace().is_host().unwrap());
    assert_eq!(plan.settle().unwrap(), None);
}

#[test]
#[ignore = "needs root"]
fn what_has_a_path_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let id = PodId::new("test", "one").unwrap();
    let directory = PodDirectory::create(&dir.path().join("run"), &id, |_, _| Ok(())).unwrap();
    let plan = plan(NetworkConfig::default(), spec(NetworkNamespace::New)).unwrap();
    let kept = dir.path().join("log/audit");
    plan.set_up(&directory, Some(&kept), &id).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for path in [directory.network(), directory.policies()] {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let [first, second] = directory.audits(Some(&kept), &id);
    assert_eq!((mode(&kept), mode(&first), mode(&second)), (0o700, 0o600, 0o600));
    assert!(first.ends_with("log/audit/test.one.0.jsonl"));
    // Programs of any user in the guest read it.
    assert_eq!(mode(&directory.resolv_conf()), 0o644);
    directory.remove().unwrap();
    assert!(first.exists());
}
