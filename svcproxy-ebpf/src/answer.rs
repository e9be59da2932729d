//! What ICMP errors and TCP resets have in common: the refused packet itself becomes the answer, and goes back through
//! the interface it came by.

use aya_ebpf::{bindings::TC_ACT_SHOT, helpers::bpf_redirect, programs::TcContext};
use network_types::eth::EtherType;
use svcproxy_common::{
    abi::{Address, V4Addr, V6Addr},
    checksum,
    family::{Family, V4, V6},
    wire::{Ethernet, Ipv4, Ipv6},
};

use crate::access::Frame;

/// An IP version.
#[derive(Clone, Copy)]
pub(crate) enum Version {
    V4,
    V6,
}

/// The IP version of an untagged packet.
#[inline(always)]
pub(crate) fn family(ctx: &TcContext) -> Option<Version> {
    const IPV4: u16 = EtherType::Ipv4 as u16;
    const IPV6: u16 = EtherType::Ipv6 as u16;

    let frame = Frame::new(ctx.data(), ctx.data_end());
    let ethernet: &Ethernet = frame.at(0)?;
    match ethernet.ethertype.get() {
        IPV4 => Some(Version::V4),
        IPV6 => Some(Version::V6),
        _ => None,
    }
}

/// Sends the answer that the packet has become, or drops the packet where there is none.
#[inline(always)]
pub(crate) fn send(ctx: &TcContext, answered: Option<()>) -> i32 {
    match answered {
        // SAFETY: the helper takes two numbers; the context is that of the running program.
        Some(()) => (unsafe { bpf_redirect((*ctx.skb.skb).ifindex, 0) }) as i32,
        None => TC_ACT_SHOT,
    }
}

/// Swaps the hardware addresses.
#[inline(always)]
pub(crate) fn turn_round(frame: &Frame) -> Option<()> {
    let ethernet: &Ethernet = frame.at(0)?;
    let (dst, src) = (ethernet.dst.get(), ethernet.src.get());
    ethernet.dst.set(src);
    ethernet.src.set(dst);
    Some(())
}

/// What an answer needs to know of an IP version.
pub(crate) trait Answer: Family {
    /// Type and code of "port unreachable".
    const UNREACHABLE: (u8, u8);

    /// Type and code of "fragmentation needed" or "packet too big", with the MTU as a number of 32 bits (of which
    /// RFC 1191 has the lower 16).
    const TOO_BIG: (u8, u8);

    /// Type of an echo request.
    const ECHO: u8;

    /// Length of the packet, bytes.
    fn length(header: &Self::Header) -> usize;

    /// What the fixed header says comes next.
    fn protocol(header: &Self::Header) -> u8;

    /// Whether the sender of such a packet may be told of an error.
    fn answerable(header: &Self::Header) -> bool;

    /// Whether the fixed header is all there is before a whole packet of `protocol`.
    fn leads(header: &Self::Header, protocol: u8) -> bool;

    /// Writes the answer's header, for `payload` bytes of `protocol`.
    fn write(header: &Self::Header, protocol: u8, src: Self::Address, dst: Self::Address, payload: u16);

    /// What the pseudo-header adds to the ICMP checksum.
    fn icmp_pseudo_header(src: Self::Address, dst: Self::Address, length: u16) -> u32;
}

const HOPS: u8 = 64;

impl Answer for V4 {
    const UNREACHABLE: (u8, u8) = (3, 3);
    const TOO_BIG: (u8, u8) = (3, 4);
    const ECHO: u8 = 8;

    #[inline(always)]
    fn length(header: &Ipv4) -> usize {
        u16::from_be(header.total_length.get()).into()
    }

    #[inline(always)]
    fn protocol(header: &Ipv4) -> u8 {
        header.protocol.get()
    }

    #[inline(always)]
    fn answerable(header: &Ipv4) -> bool {
        const OFFSET: u16 = 0x1fff_u16.to_be();

        // Neither "this network", loopback, multicast nor reserved (RFC 6890), and of fragments the first (RFC 1122,
        // section 3.2.2).
        let [first, ..] = header.src.get().octets;
        first != 0 && first != 127 && first < 224 && header.fragment.get() & OFFSET == 0
    }

    #[inline(always)]
    fn leads(header: &Ipv4, protocol: u8) -> bool {
        const OFFSET_OR_MORE: u16 = 0x3fff_u16.to_be();

        let plain = header.version_ihl.get() == 0x45 && header.fragment.get() & OFFSET_OR_MORE == 0;
        plain && header.protocol.get() == protocol
    }

    #[inline(always)]
    fn write(header: &Ipv4, protocol: u8, src: V4Addr, dst: V4Addr, payload: u16) {
        const VERSION_IHL_TOS: u16 = 0x4500_u16.to_be();

        let length = (size_of::<Ipv4>() as u16 + payload).to_be();
        header.version_ihl.set(0x45);
        header.tos.set(0);
        header.total_length.set(length);
        header.identification.set(0);
        header.fragment.set(0);
        header.ttl.set(HOPS);
        header.protocol.set(protocol);
        header.src.set(src);
        header.dst.set(dst);
        let ttl_protocol = u16::from_be_bytes([HOPS, protocol]).to_be();
        let words = u32::from(VERSION_IHL_TOS) + u32::from(ttl_protocol) + u32::from(length);
        header.checksum.set(!checksum::fold(words + src.sum() + dst.sum()));
    }

    #[inline(always)]
    fn icmp_pseudo_header(_: V4Addr, _: V4Addr, _: u16) -> u32 {
        0 // RFC 792 has none
    }
}

impl Answer for V6 {
    const UNREACHABLE: (u8, u8) = (1, 4);
    const TOO_BIG: (u8, u8) = (2, 0);
    const ECHO: u8 = 128;

    #[inline(always)]
    fn length(header: &Ipv6) -> usize {
        size_of::<Ipv6>() + usize::from(u16::from_be(header.payload_length.get()))
    }

    #[inline(always)]
    fn protocol(header: &Ipv6) -> u8 {
        header.next_header.get()
    }

    #[inline(always)]
    fn answerable(header: &Ipv6) -> bool {
        // Neither multicast nor unspecified (RFC 4443, section 2.4).
        let src = header.src.get();
        src.octets[0] != 0xff && src.bits() != 0
    }

    #[inline(always)]
    fn leads(header: &Ipv6, protocol: u8) -> bool {
        header.next_header.get() == protocol
    }

    #[inline(always)]
    fn write(header: &Ipv6, protocol: u8, src: V6Addr, dst: V6Addr, payload: u16) {
        header.version_class.set(0x6000_u16.to_be());
        header.flow_label.set(0);
        header.payload_length.set(payload.to_be());
        header.next_header.set(protocol);
        header.hop_limit.set(HOPS);
        header.src.set(src);
        header.dst.set(dst);
    }

    #[inline(always)]
    fn icmp_pseudo_header(src: V6Addr, dst: V6Addr, length: u16) -> u32 {
        pseudo_header(V6::ICMP, src, dst, length)
    }
}

/// The sum of a pseudo-header: for TCP the same in both families (RFC 9293, RFC 8200 section 8.1).
#[inline(always)]
pub(crate) fn pseudo_header<A: Address>(protocol: u8, src: A, dst: A, length: u16) -> u32 {
    src.sum() + dst.sum() + u32::from(length.to_be()) + u32::from(u16::from(protocol).to_be())
}
