//! Random packets for a scene: requests, replies to what came out, errors about it, pieces of either, packets that are
//! nobody's; whole, damaged, or noise.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use fastrand::Rng;
use svcproxy::model::Protocol;
use svcproxy_common::abi::Protocol::{SCTP, TCP, UDP};

use super::scene::{Scene, choose};
use crate::model::{Frame, Ip, MAC_NODE, arp, judge, packet, pieces, sctp, tcp};

/// How many of the packets that came out are remembered.
const RECENT: usize = 64;
/// Source ports of clients: few enough that they meet each other.
pub(super) const PORTS: Range<u16> = 5000..5006;

/// The packets of a scene.
pub(super) struct Traffic<'a> {
    scene: &'a Scene,
    random: Rng,
    /// Translated packets as they left.
    recent: Vec<Vec<u8>>,
    /// Pieces on their way.
    pieces: Vec<Vec<u8>>,
}

impl<'a> Traffic<'a> {
    pub(super) fn new(scene: &'a Scene, random: Rng) -> Self {
        Self {
            scene,
            random,
            recent: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// Remembers a packet that was translated.
    pub(super) fn left(&mut self, frame: &[u8]) {
        if self.recent.len() < RECENT {
            self.recent.push(frame.to_vec());
        } else {
            self.recent[self.random.usize(..RECENT)] = frame.to_vec();
        }
    }

    /// The next frame. It is for this node, also when it was made of one that had been sent on.
    pub(super) fn next(&mut self) -> Vec<u8> {
        let mut frame = self.any();
        if let Some(dst) = frame.get_mut(..MAC_NODE.len()) {
            dst.copy_from_slice(&MAC_NODE);
        }
        frame
    }

    fn any(&mut self) -> Vec<u8> {
        if !self.pieces.is_empty() && self.random.bool() {
            // In order, mostly.
            let index = match self.random.u8(..8) {
                0 => self.random.usize(..self.pieces.len()),
                _ => 0,
            };
            return self.pieces.remove(index);
        }
        let whole = match self.random.u8(..100) {
            0..=39 => self.request(),
            40..=79 => self.reply().unwrap_or_else(|| self.request()),
            80..=89 => self.error().unwrap_or_else(|| self.request()),
            90..=93 => return self.foreign(),
            94 => return self.noise(),
            _ => {
                let frame = if self.random.bool() { self.error() } else { self.reply() };
                let frame = frame.unwrap_or_else(|| self.request());
                return self.in_pieces(frame);
            }
        };
        self.damaged(whole)
    }

    fn request(&mut self) -> Vec<u8> {
        let scene = self.scene;
        let random = &mut self.random;
        let anywhere = |random: &mut Rng| {
            let ip = *choose(random, &Ip::ALL);
            let of = [Ip::vip, Ip::client, Ip::pod];
            of[random.usize(..of.len())](ip, random.u16(1..12), *choose(random, &[80, 443, 53, 81]))
        };
        let (mut protocol, mut dst) = match scene.targets.is_empty() || random.u8(..10) == 0 {
            true => (*choose(random, &[TCP, UDP, SCTP]), anywhere(random)),
            false => *choose(random, &scene.targets),
        };
        match random.u8(..20) {
            0 => dst.set_port(*choose(random, &[80, 443, 53, 1])),
            1 => protocol = *choose(random, &[TCP, UDP, SCTP]),
            _ => {}
        }
        let of_family: Vec<IpAddr> = scene
            .clients
            .iter()
            .copied()
            .filter(|ip| ip.is_ipv4() == dst.is_ipv4())
            .collect();
        let client = *choose(random, &of_family);
        let src = SocketAddr::new(client, random.u16(PORTS));
        let flags = *choose(random, &["S", "S", "S", ".", ".", ".", "P.", "F.", "R", "S."]);
        self.dressed(protocol, src, dst, flags)
    }

    /// The answer to a packet that came out: whoever got it turns it round.
    fn reply(&mut self) -> Option<Vec<u8>> {
        if self.recent.is_empty() {
            return None;
        }
        let frame = choose(&mut self.random, &self.recent);
        let layers = judge::layers(frame)?;
        let port = |offset: usize| {
            Some(u16::from_be_bytes(
                *frame.get(layers.transport + offset..)?.first_chunk()?,
            ))
        };
        let (src, dst) = (
            SocketAddr::new(layers.dst, port(2)?),
            SocketAddr::new(layers.src, port(0)?),
        );
        let protocol = match layers.protocol {
            6 => TCP,
            17 => UDP,
            132 => SCTP,
            _ => return None,
        };
        let flags = *choose(&mut self.random, &["S.", "S.", ".", ".", "P.", "F.", "R", "R.", "S"]);
        Some(self.dressed(protocol, src, dst, flags))
    }

    /// A whole packet with any options, tags and payload.
    fn dressed(&mut self, protocol: Protocol, src: SocketAddr, dst: SocketAddr, flags: &str) -> Vec<u8> {
        let random = &mut self.random;
        let frame = match protocol {
            SCTP if random.u8(..4) == 0 => sctp(src, dst, random.u8(..16)),
            _ => packet(protocol, src, dst, flags),
        };
        let mut frame = frame
            .payload(self::payload(random, &[0, 1, 8, 8, 8, 64, 300, 1300, 1400, 1461, 1500]))
            .ttl(*choose(random, &[1, 2, 64, 64, 64, 64, 255]))
            .vlans(usize::from(random.u8(..16).saturating_sub(13)));
        if random.u8(..8) == 0 {
            frame = self::options(random, frame, src.is_ipv4());
        }
        if protocol == TCP {
            frame = frame.tcp_options(random.usize(..4));
        }
        if protocol == UDP && random.u8(..8) == 0 {
            frame = frame.without_checksum();
        }
        if random.u8(..4) == 0 {
            frame = frame.may_be_cut();
        }
        if random.u8(..8) == 0 {
            frame = frame.padding(random.usize(..8));
        }
        frame.bytes()
    }

    /// An error about a packet that came out.
    fn error(&mut self) -> Option<Vec<u8>> {
        if self.recent.is_empty() {
            return None;
        }
        let random = &mut self.random;
        let about = choose(random, &self.recent);
        let layers = judge::layers(about).filter(|layers| layers.transport <= about.len())?;
        let ip = if layers.src.is_ipv4() { Ip::V4 } else { Ip::V6 };
        let router = *choose(random, &[ip.router(), layers.dst]);
        let kind = match ip {
            Ip::V4 => *choose(random, &[(3, 4), (3, 3), (11, 0), (12, 0), (8, 0), (5, 0)]),
            Ip::V6 => *choose(random, &[(2, 0), (1, 4), (3, 0), (4, 0), (128, 0), (135, 0)]),
        };
        let bytes = *choose(random, &[8, 8, 8, 20, 64, 500, 0, 3]);
        Some(pieces::error(
            router,
            kind,
            *choose(random, &[0, 1280, 1400]),
            about,
            bytes,
        ))
    }

    /// The same packet as fragments, of which the first is returned and the others follow.
    fn in_pieces(&mut self, frame: Vec<u8>) -> Vec<u8> {
        let whole = judge::layers(&frame)
            .filter(|layers| layers.transport + layers.length <= frame.len() && layers.fragment == (0, false));
        if whole.is_none_or(|layers| layers.length == 0 || layers.fragment_header.is_some()) {
            return frame;
        }
        let size = *choose(&mut self.random, &[24, 64, 64, 512, 2048]);
        let mut pieces = pieces::cut(&frame, size, self.random.u16(..4));
        pieces.truncate(self.random.usize(1..8));
        if self.random.u8(..8) == 0 {
            self.random.shuffle(&mut pieces);
        }
        let first = pieces.remove(0);
        self.pieces.extend(pieces);
        first
    }

    /// What no Service has to do with.
    fn foreign(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        let ip = *choose(random, &Ip::ALL);
        let (src, dst) = (
            ip.client(1, 5000),
            *choose(random, &[ip.vip(1, 80), ip.vip(99, 80), ip.pod(1, 80)]),
        );
        let protocol = if ip == Ip::V4 { 9 } else { 6 };
        match random.u8(..4) {
            0 => arp(),
            1 => tcp(src, dst, "S")
                .edit(protocol, *choose(random, &[1, 2, 47, 50, 58, 59, 103]))
                .bytes(),
            2 => tcp(src, dst, "S").vlans(3).bytes(),
            _ => tcp(ip.pod(1, 8080), src, "S.").bytes(),
        }
    }

    /// Bytes that only begin like a packet.
    fn noise(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        let ethertype = *choose::<&[u8]>(
            random,
            &[&[0x08, 0][..], &[0x86, 0xdd], &[0x81, 0, 0, 1, 8, 0], &[0x88, 0xa8]],
        );
        let length = random.usize(15..120);
        let mut frame: Vec<u8> = (0..12)
            .map(|_| random.u8(..))
            .chain(ethertype.iter().copied())
            .collect();
        frame.extend((frame.len()..length).map(|_| random.u8(..)));
        if let Some(version) = frame.get_mut(12 + ethertype.len()) {
            *version = *choose(random, &[0x45, 0x46, 0x4f, 0x60, 0x61, *version]);
        }
        frame
    }

    fn damaged(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        let random = &mut self.random;
        if random.u8(..16) == 0 {
            let headers = frame.len().min(14 + 100);
            for _ in 0..random.u8(1..3) {
                frame[random.usize(12..headers)] ^= 1 << random.u8(..8);
            }
        }
        if random.u8(..16) == 0 {
            let headers = frame.len().min(14 + 100);
            frame.truncate(random.usize(15..=headers));
        }
        frame
    }
}

fn payload(random: &mut Rng, lengths: &[usize]) -> Vec<u8> {
    let mut payload = vec![0; *choose(random, lengths)];
    random.fill(&mut payload);
    payload
}

fn options(random: &mut Rng, frame: Frame, is_v4: bool) -> Frame {
    if is_v4 {
        return frame.options(random.usize(1..11));
    }
    let kinds = [(0, 1), (60, 1), (60, 3), (43, 1), (51, 3), (44, 1)];
    let headers: Vec<_> = (0..*choose(random, &[1, 1, 2, 3, 6, 7]))
        .map(|_| *choose(random, &kinds))
        .collect();
    frame.extensions(&headers)
}
