//! Which network an address belongs to.

use std::net::IpAddr;

/// Where clouds keep their metadata services.
pub fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
