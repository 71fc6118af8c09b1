#![allow(clippy::unwrap_used)]
use super::*;
use crate::config::NetworkConfig;

fn of(addresses: &[&str]) -> Interface {
    interface(&addresses.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
}

#[test]
fn the_default_is_a_private_network_of_both_families() {
    let interface = interface(&NetworkConfig::default().developer_addresses);
    assert_eq!(interface.gateway4, Ipv4Addr::new(10, 0, 2, 2));
    assert_eq!(interface.gateway6, "fd00::2".parse::<Ipv6Addr>().unwrap());
    assert_eq!((interface.routes.len(), interface.mtu), (2, 1500));
    assert!(interface.routes.iter().all(Route::is_default));
}

#[test]
fn the_gateway_is_never_the_guest() {
    assert_eq!(of(&["192.168.7.2/24"]).gateway4, Ipv4Addr::new(192, 168, 7, 1));
    assert_eq!(of(&["192.168.7.1/30"]).gateway4, Ipv4Addr::new(192, 168, 7, 2));
    assert_eq!(of(&["192.168.7.1/30"]).routes.len(), 1);
}
