//! Datagrams in pieces, and ICMP errors about packets: frames made of other frames.

use std::net::IpAddr;

use super::judge::{self, Layers};

/// Cuts a frame's IP packet into fragments of so many bytes each (a multiple of 8) behind the IP header.
pub fn cut(frame: &[u8], size: usize, identification: u16) -> Vec<Vec<u8>> {
    let layers = judge::layers(frame).unwrap();
    let (headers, rest) = frame.split_at(layers.transport);
    let rest = &rest[..layers.length];
    let pieces = rest.chunks(size).enumerate();
    pieces
        .map(|(index, piece)| {
            let more = (index + 1) * size < rest.len();
            fragment(headers, &layers, index * size, more, identification, piece)
        })
        .collect()
}

fn fragment(headers: &[u8], layers: &Layers, offset: usize, more: bool, identification: u16, piece: &[u8]) -> Vec<u8> {
    let mut frame = headers.to_vec();
    let ip = layers.ip;
    if layers.src.is_ipv4() {
        let length = (headers.len() - ip + piece.len()) as u16;
        let fragment = (offset / 8) as u16 | u16::from(more) << 13;
        frame[ip + 2..ip + 4].copy_from_slice(&length.to_be_bytes());
        frame[ip + 4..ip + 6].copy_from_slice(&identification.to_be_bytes());
        frame[ip + 6..ip + 8].copy_from_slice(&fragment.to_be_bytes());
    } else {
        // Behind the other extension headers: whose next header is the transport protocol.
        let length = (headers.len() - ip - 40 + 8 + piece.len()) as u16;
        let next = next_header(&frame, layers);
        frame[next] = 44;
        frame[ip + 4..ip + 6].copy_from_slice(&length.to_be_bytes());
        frame.extend([layers.protocol, 0]);
        frame.extend((offset as u16 | u16::from(more)).to_be_bytes());
        frame.extend(u32::from(identification).to_be_bytes());
    }
    frame.extend(piece);
    seal_header(&mut frame);
    frame
}

/// Where the number of the transport protocol is in an IPv6 packet.
fn next_header(frame: &[u8], layers: &Layers) -> usize {
    let (mut next, mut at) = (layers.ip + 6, layers.ip + 40);
    while at < layers.transport {
        let units = usize::from(frame[at + 1]);
        let length = if frame[next] == 51 {
            (units + 2) * 4
        } else {
            (units + 1) * 8
        };
        (next, at) = (at, at + length);
    }
    next
}

/// The datagram that fragments, in this order, are of.
pub fn join(fragments: &[Vec<u8>]) -> Vec<u8> {
    let first = judge::layers(&fragments[0]).unwrap();
    let mut frame = fragments[0][..first.transport].to_vec();
    for piece in fragments {
        let layers = judge::layers(piece).unwrap();
        assert_eq!(
            (layers.src, layers.dst, layers.protocol),
            (first.src, first.dst, first.protocol)
        );
        assert_eq!(layers.fragment.0, frame.len() - first.transport);
        frame.extend(&piece[layers.transport..layers.transport + layers.length]);
    }
    let ip = first.ip;
    match first.fragment_header {
        None => {
            let length = (frame.len() - ip) as u16;
            frame[ip + 2..ip + 4].copy_from_slice(&length.to_be_bytes());
            frame[ip + 6..ip + 8].fill(0);
        }
        Some(at) => {
            // It is the last of the headers.
            let mut before = first;
            before.transport = at;
            let next = next_header(&frame, &before);
            frame[next] = first.protocol;
            frame.drain(at..at + 8);
            let length = (frame.len() - ip - 40) as u16;
            frame[ip + 4..ip + 6].copy_from_slice(&length.to_be_bytes());
        }
    }
    seal_header(&mut frame);
    frame
}

/// Writes the checksum of the IPv4 header alone.
fn seal_header(frame: &mut [u8]) {
    if let Some(checksum) = judge::checksums(frame)
        .first()
        .filter(|checksum| checksum.name == "IPv4")
    {
        frame[checksum.offset..checksum.offset + 2].copy_from_slice(&(checksum.computed as u16).to_be_bytes());
    }
}

/// The error of type and code that `router` sends about a frame's packet, of which it quotes the IP header and so many
/// bytes more.
pub fn error(router: IpAddr, kind: (u8, u8), mtu: u16, about: &[u8], bytes: usize) -> Vec<u8> {
    let layers = judge::layers(about).unwrap();
    let end = about.len().min(layers.transport + bytes);
    error_quoting(
        router,
        layers.src,
        kind,
        mtu,
        &about[..layers.ip],
        &about[layers.ip..end],
    )
}

/// The same about anything, behind the Ethernet header given.
pub fn error_quoting(
    src: IpAddr,
    dst: IpAddr,
    (kind, code): (u8, u8),
    mtu: u16,
    ethernet: &[u8],
    quoted: &[u8],
) -> Vec<u8> {
    let protocol = if src.is_ipv4() { 1 } else { 58 };
    let [high, low] = mtu.to_be_bytes();
    let icmp = [&[kind, code, 0, 0, 0, 0, high, low], quoted].concat();
    plain(ethernet, src, dst, protocol, &icmp)
}

/// A packet behind nothing but an Ethernet and an IP header, its checksums written.
pub fn plain(ethernet: &[u8], src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet.to_vec();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            frame.extend([0x45, 0]);
            frame.extend((20 + payload.len() as u16).to_be_bytes());
            frame.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
            frame.extend([src.octets(), dst.octets()].concat());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            frame.extend([0x60, 0, 0, 0]);
            frame.extend((payload.len() as u16).to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend([src.octets(), dst.octets()].concat());
        }
        _ => panic!("{src} and {dst} are of two families"),
    }
    frame.extend(payload);
    judge::seal(&mut frame);
    frame
}

/// The packet that an ICMP error quotes, as a frame.
pub fn quoted(frame: &[u8]) -> Vec<u8> {
    let layers = judge::layers(frame).unwrap();
    let headers = &frame[..layers.ip];
    [headers, &frame[layers.transport + 8..]].concat()
}
