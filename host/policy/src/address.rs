//! Classifies IP addresses, in every spelling, as public, private, loopback or link-local.
//!
//! A granted host name must not resolve to an address that only this machine can reach: a cloud's
//! metadata service, a loopback service, the local network. The ranges are those of IANA's
//! special-purpose registries (RFC 6890) and of the cloud providers' documentation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::schema::Schema;

/// A network that a grant can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Private networks: RFC 1918, shared address space of providers (RFC 6598), unique local IPv6
    /// addresses, and the benchmark range (RFC 2544).
    Private,
    /// This machine.
    Loopback,
    /// Link-local addresses and the metadata services of clouds.
    LinkLocal,
}

impl Schema for Network {
    fn schema() -> Value {
        json!({ "enum": [Self::Private, Self::Loopback, Self::LinkLocal] })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "private",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
        })
    }
}

/// The class of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A publicly routed address.
    Public,
    /// An address in a network that a grant can name.
    Restricted(Network),
    /// An address that is never allowed: multicast, broadcast, documentation, reserved.
    Reserved,
}

/// The networks whose addresses a host name may resolve to, in addition to public addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllowedNetworks(Vec<Network>);

impl AllowedNetworks {
    /// Allows public addresses and those of the given networks.
    pub fn new(networks: impl IntoIterator<Item = Network>) -> Self {
        let mut networks: Vec<_> = networks.into_iter().collect();
        networks.sort_unstable();
        networks.dedup();
        Self(networks)
    }

    /// Adds networks.
    pub fn with(self, networks: &[Network]) -> Self {
        Self::new(self.0.into_iter().chain(networks.iter().copied()))
    }

    /// Returns whether a host name may resolve to the address.
    pub fn allows(&self, address: IpAddr) -> bool {
        self.denied_network(address).is_none()
    }

    /// Returns `None` if the address is allowed, otherwise the network to grant, or `Some(None)` if no
    /// grant can allow the address.
    pub fn denied_network(&self, address: IpAddr) -> Option<Option<Network>> {
        match classify(address) {
            Class::Public => None,
            Class::Restricted(network) if self.0.contains(&network) => None,
            Class::Restricted(network) => Some(Some(network)),
            Class::Reserved => Some(None),
        }
    }
}

/// Metadata services outside the link-local ranges: AWS over IPv6, Google Cloud over IPv6, Azure
/// WireServer, Alibaba Cloud.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
];

/// Returns the class of an address. An IPv6 address that embeds an IPv4 address has the class of the
/// IPv4 address.
pub fn classify(address: IpAddr) -> Class {
    let address = address.to_canonical();
    if METADATA.contains(&address) {
        return Class::Restricted(Network::LinkLocal);
    }
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => classify(IpAddr::V4(inner)),
            None => classify_v6(address),
        },
    }
}

fn classify_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        // Linux connects to this machine if the target is 0.0.0.0.
        [0, ..] | [127, ..] => Class::Restricted(Network::Loopback),
        [169, 254, ..] => Class::Restricted(Network::LinkLocal),
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] | [100, 64..=127, ..] | [198, 18..=19, ..] => {
            Class::Restricted(Network::Private)
        }
        [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] | [224..=255, ..] => {
            Class::Reserved
        }
        _ => Class::Public,
    }
}

/// Returns the IPv4 address that a gateway would translate an IPv6 address to.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let from_segments = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match [a, b, c, d, e, f] {
        // NAT64 (RFC 6052), and IPv4-compatible addresses (RFC 4291) except `::` and `::1`.
        [0x64, 0xff9b, 0, 0, 0, 0] => Some(from_segments(g, h)),
        [0, 0, 0, 0, 0, 0] if g != 0 => Some(from_segments(g, h)),
        // IPv4-translated (RFC 2765).
        [0, 0, 0, 0, 0xffff, 0] => Some(from_segments(g, h)),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => Some(from_segments(high, low)),
        _ => None,
    }
}

fn classify_v6(address: Ipv6Addr) -> Class {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, _] => Class::Restricted(Network::Loopback),
        [0xfe80..=0xfebf, ..] => Class::Restricted(Network::LinkLocal),
        // Unique local (RFC 4193), deprecated site-local (RFC 3879), local-use NAT64 (RFC 8215).
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] | [0x64, 0xff9b, 1, ..] => {
            Class::Restricted(Network::Private)
        }
        // Documentation, Teredo, ORCHID and benchmark ranges within global unicast.
        [0x2001, 0xdb8, ..] | [0x2001, 0..=0x1ff, ..] | [0x3fff, 0..=0xfff, ..] => Class::Reserved,
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str) -> Class {
        classify(text.parse().unwrap())
    }

    #[test]
    fn addresses_are_classified_alike_in_every_spelling() {
        use Network::{LinkLocal, Loopback, Private};
        for (network, spellings) in [
            (
                LinkLocal,
                &[
                    "169.254.169.254",
                    "::ffff:169.254.169.254",
                    "::169.254.169.254",
                    "64:ff9b::a9fe:a9fe",
                    "2002:a9fe:a9fe::1",
                    "::ffff:0:169.254.169.254",
                    "fe80::1",
                    "febf::1",
                    "fd00:ec2::254",
                    "fd20:ce::254",
                    "168.63.129.16",
                    "64:ff9b::a83f:8110",
                    "100.100.100.200",
                ] as &[&str],
            ),
            (
                Loopback,
                &[
                    "127.0.0.1",
                    "127.255.255.254",
                    "0.0.0.0",
                    "0.1.2.3",
                    "::",
                    "::1",
                    "::ffff:127.0.0.1",
                    "64:ff9b::7f00:1",
                    "2002:7f00:1::",
                ],
            ),
            (
                Private,
                &[
                    "10.0.0.1",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.1.1",
                    "100.64.0.1",
                    "100.127.255.255",
                    "198.18.0.1",
                    "fc00::1",
                    "fdff::1",
                    "fec0::1",
                    "64:ff9b:1::1",
                    "::ffff:10.0.0.1",
                    "64:ff9b::a00:1",
                    "2002:c0a8:101::1",
                ],
            ),
        ] {
            for text in spellings {
                assert_eq!(class(text), Class::Restricted(network), "{text}");
                let address = text.parse().unwrap();
                assert_eq!(AllowedNetworks::default().denied_network(address), Some(Some(network)), "{text}");
                assert!(AllowedNetworks::new([network]).allows(address), "{text}");
            }
        }
        for text in
            ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"]
        {
            assert_eq!(class(text), Class::Public, "{text}");
        }
        for text in [
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "203.0.113.9",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "100::1",
            "4000::1",
        ] {
            assert_eq!(class(text), Class::Reserved, "{text}");
            assert!(
                !AllowedNetworks::new([Network::Private, Network::Loopback, Network::LinkLocal])
                    .allows(text.parse().unwrap())
            );
        }
    }
}
