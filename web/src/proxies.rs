//! Who is at the other end, where proxies stand between: each appends the address that came to it to `X-Forwarded-For`. Those
//! that are known are believed, from the nearest on; what a stranger wrote there is not.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use hyper::HeaderMap;

const HEADER: &str = "x-forwarded-for";

/// Addresses with the same first bits: `10.0.0.0/8`, or one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let reason = || format!("{text:?} is no address such as 10.0.0.7 or 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().map_err(|_| reason())?)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| reason())?;
        if address.to_canonical() != address {
            return Err(format!("{text:?} is written {} where it is meant", address.to_canonical()));
        }
        let most = if address.is_ipv4() { 32 } else { 128 };
        match bits.unwrap_or(most) {
            bits if bits <= most => Ok(Network { address, bits }),
            _ => Err(reason()),
        }
    }
}

impl Network {
    fn has(&self, address: IpAddr) -> bool {
        // The first bits are on the left, whatever the kind.
        let left = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        };
        let differs = left(self.address) ^ left(address);
        self.address.is_ipv4() == address.is_ipv4() && (self.bits == 0 || differs >> (128 - self.bits) == 0)
    }
}

/// The nearest address that is none of a proxy. One of IPv4 is itself, also where it came to a listener of both kinds.
pub(crate) fn sender(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    let peer = peer.to_canonical();
    let is_proxy = |address: IpAddr| proxies.iter().any(|network| network.has(address));
    if !is_proxy(peer) {
        return peer;
    }
    let told = headers.get_all(HEADER).iter().filter_map(|value| value.to_str().ok());
    let told: Vec<&str> = told.flat_map(|value| value.split(',')).map(str::trim).collect();
    let mut nearest = peer;
    for text in told.into_iter().rev() {
        // A proxy that writes something else is believed no further.
        let with_port = || text.parse().map(|address: SocketAddr| address.ip());
        let Ok(address) = text.parse().or_else(|_| with_port()) else { return nearest };
        let address = address.to_canonical();
        nearest = address;
        if !is_proxy(address) {
            return nearest;
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str, told: &[&str]) -> String {
        let proxies = ["127.0.0.1", "10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        let headers = told.iter().map(|value| (HEADER.parse().unwrap(), value.parse().unwrap())).collect();
        sender(peer.parse().unwrap(), &headers, &proxies).to_string()
    }

    #[test]
    fn known_proxies_are_believed_from_the_nearest_on() {
        assert_eq!(from("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "a stranger's word");
        assert_eq!(from("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(from("127.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(
            from("127.0.0.1", &["1.1.1.1, 198.51.100.7, 10.9.8.7"]),
            "198.51.100.7",
            "what it had forged"
        );
        assert_eq!(from("fd00::1", &["1.1.1.1", "2001:db8::5"]), "2001:db8::5", "of two headers the last");
        assert_eq!(from("127.0.0.1", &["198.51.100.7, unknown"]), "127.0.0.1");
        assert_eq!(from("::ffff:127.0.0.1", &["::ffff:198.51.100.7"]), "198.51.100.7", "of both kinds");
        assert_eq!(from("127.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(from("127.0.0.1", &["[2001:db8::5]:4711"]), "2001:db8::5");
    }

    #[test]
    fn a_network_is_an_address_with_bits() {
        for wrong in ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/x", "fd00::/129", "::ffff:10.0.0.1"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.has("1.2.3.4".parse().unwrap()) && !all.has("::1".parse().unwrap()));
    }
}
