//! Finds out which local user opened a connection to a local port.
//!
//! Every user of a machine can connect to a port on 127.0.0.1. Linux lists the user of each TCP socket in
//! `/proc/net/tcp` and `/proc/net/tcp6`
//! ([proc_pid_net(5)](https://man7.org/linux/man-pages/man5/proc_pid_net.5.html)).

use std::fs;
use std::net::SocketAddrV4;

/// The user at the other end of a local connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// The user of this process.
    Own,
    /// Another user, by id.
    Other(u32),
    /// No socket has the connection: the other end has closed it.
    Gone,
    /// The system has no table of sockets.
    Unknown,
}

/// Returns the user of the socket at `peer` that is connected to `local`. It reads files, so it can block.
pub(super) fn of(peer: SocketAddrV4, local: SocketAddrV4) -> Peer {
    let tables: Vec<_> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    if tables.is_empty() {
        return Peer::Unknown;
    }
    match tables.iter().find_map(|table| user(table, peer, local)) {
        Some(user) if user == crate::user::effective() => Peer::Own,
        Some(user) => Peer::Other(user),
        None => Peer::Gone,
    }
}

/// Finds the user of a socket in a table of the kernel.
fn user(table: &str, peer: SocketAddrV4, local: SocketAddrV4) -> Option<u32> {
    let (peer, local) = (spellings(peer), spellings(local));
    table.lines().find_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let (from, to) = (columns.next()?, columns.next()?);
        let is_peer = peer.iter().zip(&local).any(|(peer, local)| peer == from && local == to);
        // State, queues, timer and retransmissions stand between the addresses and the user.
        if is_peer { columns.nth(4)?.parse().ok() } else { None }
    })
}

/// Returns an address as the kernel writes it in the tables of IPv4 and IPv6. A socket of IPv6 can connect to
/// an address of IPv4, as gRPC's do.
fn spellings(address: SocketAddrV4) -> [String; 2] {
    let port = address.port();
    let word = |octets: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(octets));
    let ip = word(address.ip().octets());
    let mapped = [word([0; 4]), word([0; 4]), word([0, 0, 0xff, 0xff]), ip.clone()].concat();
    [format!("{ip}:{port:04X}"), format!("{mapped}:{port:04X}")]
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    /// Accepts one connection and returns its peer.
    fn accepted(listener: &TcpListener) -> Peer {
        let (stream, peer) = listener.accept().unwrap();
        let (SocketAddr::V4(peer), SocketAddr::V4(local)) = (peer, stream.local_addr().unwrap()) else {
            panic!("the listener is on IPv4")
        };
        of(peer, local)
    }

    #[test]
    fn connections_of_this_user_are_recognized_in_both_address_families() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(accepted(&listener), Peer::Own);
        drop(open);
        let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port));
        let _open = TcpStream::connect(mapped).unwrap();
        assert_eq!(accepted(&listener), Peer::Own);
    }

    #[test]
    fn a_closed_connection_has_no_user() {
        let free = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        assert_eq!(of(free, free), Peer::Gone);
    }

    #[test]
    fn the_user_is_read_from_the_line_of_the_connection() {
        let (own, peer) =
            (SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8000), SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9000));
        let [own_text, own_mapped] = spellings(own);
        let [peer_text, peer_mapped] = spellings(peer);
        let rest = "01 00000000:00000000 00:00000000 00000000";
        let table = format!(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n   0: {own_text} {peer_text} {rest}  7 0 1\n   1: {peer_text} {own_text} {rest}  8 0 2\n"
        );
        assert_eq!(user(&table, peer, own), Some(8));
        assert_eq!(user(&format!("   0: {peer_mapped} {own_mapped} {rest} 9 0 3"), peer, own), Some(9));
        assert_eq!(user(&table, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9001), own), None);
    }

    /// Only root can start a program as another user.
    #[test]
    fn a_connection_of_another_user_is_recognized() {
        if crate::user::effective() != 0 {
            return;
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut other = Command::new("/bin/bash")
            .args(["-c", &format!("exec 3<>/dev/tcp/127.0.0.1/{port}; read -r line")])
            .uid(65_534)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(accepted(&listener), Peer::Other(65_534));
        drop(other.stdin.take());
        other.wait().unwrap();
    }
}
