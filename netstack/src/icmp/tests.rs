#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

/// As much of a packet as the smallest MTU holds (RFC 1812, 4.3.2.3; RFC 4443,
/// 2.4 c), and no more.
#[test]
fn an_error_quotes_what_fits() {
    for (ip, most) in [("10.0.0.1", 576), ("fd00::1", 1_280)] {
        let ip: IpAddr = ip.parse().unwrap();
        let packet: Vec<u8> = (0..3_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let told = error(ip, ip, Error::Port, &packet);
        assert_eq!(told.len(), most);
        let quote = &told[ip_header(ip) + HEADER..];
        assert_eq!(quote, &packet[..quote.len()]);
        let short = error(ip, ip, Error::Port, &packet[..40]);
        assert_eq!(short.len(), ip_header(ip) + HEADER + 40);
    }
}
