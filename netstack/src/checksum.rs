//! The internet's checksum (RFC 1071).

use std::net::IpAddr;

use smoltcp::wire::IpProtocol;

/// The folded sum over `bytes`, going on from `sum`. Not complemented.
pub fn sum(bytes: &[u8], sum: u16) -> u16 {
    let mut total = u64::from(sum);
    let mut words = bytes.chunks_exact(4);
    for word in words.by_ref() {
        if let Ok(word) = <[u8; 4]>::try_from(word) {
            total += u64::from(u32::from_be_bytes(word));
        }
    }
    total += match *words.remainder() {
        [a, b, c] => u64::from(u16::from_be_bytes([a, b])) + u64::from(u16::from_be_bytes([c, 0])),
        [a, b] => u64::from(u16::from_be_bytes([a, b])),
        [a] => u64::from(u16::from_be_bytes([a, 0])),
        _ => 0,
    };
    fold(total)
}

/// The folded sum over the pseudo header of TCP, UDP and ICMPv6.
pub fn pseudo(from: IpAddr, to: IpAddr, protocol: IpProtocol, length: usize) -> u16 {
    let mut total = address(from) + address(to);
    total += u64::from(u8::from(protocol));
    total += u64::try_from(length).unwrap_or(u64::MAX) & 0xffff_ffff;
    fold(total)
}

fn address(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => u64::from(u32::from(ip)),
        IpAddr::V6(ip) => ip.segments().into_iter().map(u64::from).sum(),
    }
}

fn fold(mut total: u64) -> u16 {
    while let Some(carry) = Some(total >> 16).filter(|carry| *carry != 0) {
        total = (total & 0xffff) + carry;
    }
    u16::try_from(total).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the obvious way to do it, for every length and tail.
    #[test]
    fn sums_like_sixteen_bits_at_a_time() {
        let bytes: Vec<u8> = (0..=255u8).map(|n| n.wrapping_mul(211) | 1).collect();
        for length in 0..bytes.len() {
            let (part, start) = (&bytes[..length], 0xfedc_u16);
            let mut naive = u32::from(start);
            for pair in part.chunks(2) {
                naive += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b));
                naive = (naive & 0xffff) + (naive >> 16);
            }
            assert_eq!(u32::from(sum(part, start)), naive, "{length}");
        }
    }
}
