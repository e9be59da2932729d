//! What the programs send back instead of a packet, made from scratch: ICMP errors and TCP resets.

use std::net::IpAddr;

use crate::model::{judge, pieces, sockets};

/// What a packet's sender is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// That nobody is there: ICMP port unreachable.
    Unreachable,
    /// What its way takes, in bytes: ICMP fragmentation needed, packet too big.
    TooBig(u16),
    /// That its connection has ended: a TCP reset.
    Reset,
}

impl Answer {
    /// The answer to a frame; `None` where none is due.
    pub(crate) fn to(self, frame: &[u8]) -> Option<Vec<u8>> {
        let mut answer = match self {
            Self::Unreachable => icmp(frame, [(3, 3), (1, 4)], 0),
            Self::TooBig(mtu) => icmp(frame, [(3, 4), (2, 0)], mtu),
            Self::Reset => reset(frame),
        }?;
        answer[..12].rotate_left(6);
        Some(answer)
    }
}

/// An ICMP error of one of these types and codes (IPv4's, IPv6's) that quotes the IP header and up to 20 bytes behind.
fn icmp(frame: &[u8], [v4, v6]: [(u8, u8); 2], mtu: u16) -> Option<Vec<u8>> {
    let (ethernet, packet) = frame.split_at(14);
    let word = |offset: usize| usize::from(u16::from_be_bytes([packet[offset], packet[offset + 1]]));
    let (src, dst): (IpAddr, IpAddr);
    let (kind, header, length, due);
    match ethernet[12..] {
        [0x08, 0x00] => {
            let address = |offset: usize| <[u8; 4]>::try_from(&packet[offset..offset + 4]).ok();
            (src, dst) = (address(12)?.into(), address(16)?.into());
            (kind, header, length) = (v4, 20, word(2));
            // Of a datagram in pieces the first is answered, and of ICMP only who asks for an echo.
            due = !matches!(packet[12], 0 | 127 | 224..) && word(6) & 0x1fff == 0;
            let asks =
                packet[0] == 0x45 && word(6) & 0x3fff == 0 && packet.get(20..28).is_some_and(|icmp| icmp[0] == 8);
            if packet[9] == 1 && !asks {
                return None;
            }
        }
        [0x86, 0xdd] => {
            let address = |offset: usize| <[u8; 16]>::try_from(&packet[offset..offset + 16]).ok();
            (src, dst) = (address(8)?.into(), address(24)?.into());
            (kind, header, length) = (v6, 40, 40 + word(4));
            due = !src.is_multicast() && !src.is_unspecified();
            if packet[6] == 58 && packet.get(40..48).is_none_or(|icmp| icmp[0] != 128) {
                return None;
            }
        }
        _ => return None,
    }
    let quoted = [header + 20, header + 8].into_iter().find(|quoted| *quoted <= length)?;
    // A packet cut off on its way has zeros behind its end.
    let mut packet = packet.to_vec();
    packet.resize(quoted, 0);
    due.then(|| pieces::error_quoting(dst, src, kind, mtu, ethernet, &packet))
}

/// The reset of a whole segment behind a plain IP header that acknowledges something and is none itself.
fn reset(frame: &[u8]) -> Option<Vec<u8>> {
    const RST: u8 = 0x04;
    const ACK: u8 = 0x10;

    let layers = judge::layers(frame)?;
    let header = if layers.src.is_ipv4() { 20 } else { 40 };
    let segment = frame.get(layers.transport..layers.transport + 20)?;
    let plain = layers.transport == 14 + header && layers.fragment == (0, false) && layers.protocol == 6;
    if !plain || segment[13] & (RST | ACK) != ACK {
        return None;
    }
    let (client, service) = sockets(frame);
    let mut reset = [service.port().to_be_bytes(), client.port().to_be_bytes()].concat();
    reset.extend(&segment[8..12]); // the number that the client expects
    reset.extend([0, 0, 0, 0, 5 << 4, RST, 0, 0, 0, 0, 0, 0]);
    Some(pieces::plain(&frame[..layers.ip], service.ip(), client.ip(), 6, &reset))
}
