//! What a container sees of its network without sending anything.

use sandbox_tests::network::Namespace;
use sandbox_tests::{Bed, tests};

use super::inside;

tests![
    Any interfaces_have_the_pods_addresses_mtu_and_mac,
    Any routes_are_the_pods,
    Any resolv_conf_is_what_the_pod_was_given,
    Any sockets_are_free_for_a_new_container,
    Ours the_kernel_makes_no_interface_by_itself,
];

/// `toolbox interfaces` without what two kernels need not share: addresses of
/// a link that the kernel makes, and interfaces that are down.
fn interfaces(lines: &[String]) -> Vec<String> {
    let kept = |line: &&String| {
        let name = line.split(' ').next().unwrap();
        (name == "eth0" || name == "lo") && !line.contains(" fe80:")
    };
    lines.iter().filter(kept).cloned().collect()
}

fn lines_of(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// The same program on both sides of the wall.
fn interfaces_have_the_pods_addresses_mtu_and_mac(bed: &Bed) {
    let pod = bed.network().pod();
    let told = inside(bed, "toolbox interfaces");
    let outside = lines_of(&pod.namespace.toolbox(&["interfaces"]));
    let expected = interfaces(&outside);
    // The host's sysfs shows the MTU of the host's devices, or none where it
    // has no such device.
    let mtu = format!("mtu {}", sandbox_tests::network::MTU);
    assert!(
        told.iter().any(|line| line.starts_with("eth0 link") && line.ends_with(&mtu)),
        "{told:?}"
    );
    let without_mtu = |lines: &[String]| -> Vec<String> {
        lines.iter().map(|line| line.split(" mtu").next().unwrap().to_owned()).collect()
    };
    assert_eq!(without_mtu(&interfaces(&told)), without_mtu(&expected));
    let others = told.iter().filter(|line| !line.starts_with("eth0 ") && !line.starts_with("lo "));
    // Kernels bring devices of their own, which are down and have no address.
    assert_eq!(others.filter(|line| line.contains(" address ")).count(), 0, "{told:?}");
}

/// `ip route` as busybox shows it, without the kernel's own link routes of
/// IPv6.
fn routes(namespace: Option<&Namespace>, bed: &Bed, family: &str) -> Vec<String> {
    let lines = match namespace {
        None => inside(bed, &format!("ip {family} route")),
        Some(namespace) => {
            let text = namespace.exec("busybox", &["ip", family, "route"], &[]).ok().text();
            lines_of(&text)
        }
    };
    let mut kept: Vec<String> = lines
        .iter()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.starts_with("fe80:") && !line.contains("ff00::"))
        .collect();
    kept.sort();
    kept
}

fn routes_are_the_pods(bed: &Bed) {
    let namespace = &bed.network().pod().namespace;
    for family in ["-4", "-6"] {
        let expected = routes(Some(namespace), bed, family);
        assert!(expected.iter().any(|line| line.starts_with("default via ")), "{expected:#?}");
        assert_eq!(routes(None, bed, family), expected);
    }
}

fn resolv_conf_is_what_the_pod_was_given(bed: &Bed) {
    let told = inside(bed, "cat /etc/resolv.conf").join("\n");
    assert_eq!(told, bed.network().pod().resolv_conf().trim());
}

/// Nothing of the runtime's own is in the container's way.
fn sockets_are_free_for_a_new_container(bed: &Bed) {
    let told = inside(bed, "cat /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6");
    let sockets: Vec<_> = told.iter().filter(|line| !line.contains("local_address")).collect();
    assert!(sockets.is_empty(), "{sockets:#?}");
}

/// `dummy0` would be there in every container, `tunl0` and `sit0` as well; a
/// workload can make what it needs.
fn the_kernel_makes_no_interface_by_itself(bed: &Bed) {
    let pod = bed.network().pod();
    let shell = bed.shell("a", |run| run.pod(pod).flags(&["--cap-add=CAP_NET_ADMIN"]));
    assert_eq!(shell.line("ls /sys/class/net"), "eth0\nlo");
    assert_eq!(shell.line("ip link add own type dummy && ls /sys/class/net"), "eth0\nlo\nown");
    shell.end();
}
