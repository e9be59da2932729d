//! The first packet of a connection, as a client sends it: a TCP SYN, a UDP datagram, an SCTP INIT.

use etherparse::{IpHeaders, IpNumber, PacketBuilder, PacketBuilderStep, err::packet::BuildWriteError};

use crate::{datapath::rehearsal::Connection, model::Protocol};

const HOPS: u8 = 64;
const WINDOW: u16 = 64_240;

/// The frame, from its Ethernet header on.
pub(super) fn first_packet(connection: &Connection) -> Vec<u8> {
    let (src, dst) = (connection.src.ip(), connection.dst.ip());
    let (src_port, dst_port) = (connection.src.port(), connection.dst.port());
    // The packet comes in by the loopback, whose hardware address is all zeros.
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [0; 6]);
    let ip = match (src, dst) {
        (std::net::IpAddr::V4(src), std::net::IpAddr::V4(dst)) => ethernet.ipv4(src.octets(), dst.octets(), HOPS),
        (std::net::IpAddr::V6(src), std::net::IpAddr::V6(dst)) => ethernet.ipv6(src.octets(), dst.octets(), HOPS),
        _ => unreachable!("a question's two ends are of one family"),
    };
    let mut frame = Vec::new();
    let written = match connection.protocol {
        Protocol::UDP => ip.udp(src_port, dst_port).write(&mut frame, b"svcproxy"),
        Protocol::SCTP => raw(ip, &mut frame, &init(src_port, dst_port)),
        Protocol::TCP | Protocol::ANY => ip.tcp(src_port, dst_port, 1, WINDOW).syn().write(&mut frame, &[]),
    };
    written.expect("a Vec takes all bytes, and these are few");
    frame
}

fn raw(ip: PacketBuilderStep<IpHeaders>, frame: &mut Vec<u8>, payload: &[u8]) -> Result<(), BuildWriteError> {
    const SCTP: IpNumber = IpNumber(Protocol::SCTP as u8);
    ip.write(frame, SCTP, payload)
}

/// An SCTP common header and its INIT chunk (RFC 9260, section 3.3.2). The programs do not look at the checksum.
fn init(src_port: u16, dst_port: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(src_port.to_be_bytes());
    packet.extend(dst_port.to_be_bytes());
    packet.extend([0; 8]); // verification tag, checksum
    packet.extend([1, 0, 0, 20]); // INIT, no flags, its length
    packet.extend(1_u32.to_be_bytes()); // initiate tag
    packet.extend(u32::from(WINDOW).to_be_bytes());
    packet.extend([0, 1, 0, 1]); // one stream each way
    packet.extend(1_u32.to_be_bytes()); // first sequence number
    packet
}
