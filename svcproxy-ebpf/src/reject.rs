//! ICMP errors: "port unreachable" is what a client gets from a Service without endpoints, so that its connect() fails
//! at once; "too big" what path MTU discovery lives on.
//!
//! In comes the skb of the refused packet, out it goes as the answer: cut down to what is quoted, new headers before
//! it, and back through the interface it came by. XDP leaves this to tc, see `xdp.rs`.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
    btf_maps::PerCpuArray,
    helpers::{bpf_csum_diff, bpf_redirect, bpf_skb_change_tail},
    macros::btf_map,
    programs::TcContext,
};
use network_types::eth::{EthHdr, EtherType};
use svcproxy_common::{
    abi::Address,
    checksum,
    family::{Family, V4, V6},
    wire::{Ethernet, Icmp, Ipv4, Ipv6},
};

use crate::{access::Frame, clock};

/// What is quoted behind the IP header: ports and a little more (RFC 792), or all of a TCP header, because an skb whose
/// checksum is left to the hardware cannot be cut off before that field.
const QUOTED: [usize; 2] = [8, 20];
/// Answers a second on each processor, as many as the kernel sends in all (`net.ipv4.icmp_msgs_per_sec`).
const LIMIT: u32 = 1000;

/// How many answers this processor has sent.
#[repr(C)]
struct Budget {
    /// In this second of CLOCK_MONOTONIC.
    second: u32,
    /// So many.
    sent: u32,
}

#[btf_map(name = "reject_budget")]
static BUDGET: PerCpuArray<Budget, 1> = PerCpuArray::new();

/// Tells the sender that nobody is there.
#[inline(always)]
pub(crate) fn port_unreachable(ctx: &TcContext) -> i32 {
    reject(ctx, 0)
}

/// Tells the sender that IP packets of at most `mtu` bytes get through.
#[inline(always)]
pub(crate) fn too_big(ctx: &TcContext, mtu: u16) -> i32 {
    reject(ctx, mtu)
}

/// Turns the skb into the answer, "too big" when there is an `mtu`, and sends it, or drops it where no answer is due.
#[inline(never)]
fn reject(ctx: &TcContext, mtu: u16) -> i32 {
    const IPV4: u16 = EtherType::Ipv4 as u16;
    const IPV6: u16 = EtherType::Ipv6 as u16;

    let frame = Frame::new(ctx.data(), ctx.data_end());
    let ethertype = frame.at::<Ethernet>(0).map(|ethernet| ethernet.ethertype.get());
    let answered = match ethertype {
        Some(IPV4) => answer::<V4>(ctx, mtu),
        Some(IPV6) => answer::<V6>(ctx, mtu),
        _ => None,
    };
    match answered {
        // SAFETY: the helper takes two numbers; the context is that of the running program.
        Some(()) => (unsafe { bpf_redirect((*ctx.skb.skb).ifindex, 0) }) as i32,
        None => TC_ACT_SHOT,
    }
}

#[inline(always)]
fn answer<F: Unreachable>(ctx: &TcContext, mtu: u16) -> Option<()> {
    let frame = Frame::new(ctx.data(), ctx.data_end());
    let refused: &F::Header = frame.at(EthHdr::LEN)?;
    let (client, service) = F::addresses(refused);
    let header_len = size_of::<F::Header>();
    let quoted = match F::length(refused) {
        length if length >= header_len + QUOTED[1] => header_len + QUOTED[1],
        length if length >= header_len + QUOTED[0] => header_len + QUOTED[0],
        _ => return None,
    };
    if !F::is_unicast(client) || !within_budget() {
        return None;
    }
    let headers = header_len + size_of::<Icmp>();
    // SAFETY: the skb of the running program.
    let cut = unsafe { bpf_skb_change_tail(ctx.skb.skb, (EthHdr::LEN + quoted) as u32, 0) };
    if cut != 0 || ctx.adjust_room(headers as i32, BPF_ADJ_ROOM_MAC, 0).is_err() {
        return None;
    }

    let frame = Frame::new(ctx.data(), ctx.data_end());
    let ethernet: &Ethernet = frame.at(0)?;
    let (dst, src) = (ethernet.dst.get(), ethernet.src.get());
    ethernet.dst.set(src);
    ethernet.src.set(dst);
    let ip: &F::Header = frame.at(EthHdr::LEN)?;
    F::write(ip, service, client, (size_of::<Icmp>() + quoted) as u16);
    let offset = EthHdr::LEN + size_of::<F::Header>();
    let icmp: &Icmp = frame.at(offset)?;
    let (kind, code) = if mtu == 0 { F::UNREACHABLE } else { F::TOO_BIG };
    icmp.kind.set(kind);
    icmp.code.set(code);
    icmp.checksum.set(0);
    icmp.rest.set(u32::from(mtu).to_be());
    // The verifier wants lengths that it knows.
    let sum = match quoted == header_len + QUOTED[1] {
        true => sum(&frame, offset, size_of::<Icmp>() + header_len + QUOTED[1]),
        false => sum(&frame, offset, size_of::<Icmp>() + header_len + QUOTED[0]),
    };
    let sum = sum? + F::pseudo_header(service, client, (size_of::<Icmp>() + quoted) as u32);
    icmp.checksum.set(!checksum::fold(sum));
    Some(())
}

/// The sum of `length` bytes as 16-bit words.
#[inline(always)]
fn sum(frame: &Frame, offset: usize, length: usize) -> Option<u32> {
    let bytes = frame.bytes(offset, length)?;
    // SAFETY: that many bytes are in the packet; nothing is subtracted.
    let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, bytes.cast_mut().cast(), length as u32, 0) };
    u32::try_from(sum).ok().map(|sum| checksum::fold(sum).into())
}

/// Counts an answer; false when this second's are used up.
#[inline(always)]
fn within_budget() -> bool {
    let Some(budget) = BUDGET.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own slot, and programs of this type do not nest on one CPU.
    let budget = unsafe { &mut *budget };
    let now = clock::now();
    if budget.second != now {
        budget.second = now;
        budget.sent = 0;
    }
    budget.sent += 1;
    budget.sent <= LIMIT
}

/// What an answer needs to know of an IP version.
trait Unreachable: Family {
    /// Type and code of "port unreachable".
    const UNREACHABLE: (u8, u8);

    /// Type and code of "fragmentation needed" or "packet too big", with the MTU as a number of 32 bits (of which
    /// RFC 1191 has the lower 16).
    const TOO_BIG: (u8, u8);

    /// Length of the packet, bytes.
    fn length(header: &Self::Header) -> usize;

    /// Whether an answer may be sent to an address.
    fn is_unicast(address: Self::Address) -> bool;

    /// Writes the answer's header, for `payload` bytes of ICMP.
    fn write(header: &Self::Header, src: Self::Address, dst: Self::Address, payload: u16);

    /// What the pseudo-header adds to the ICMP checksum.
    fn pseudo_header(src: Self::Address, dst: Self::Address, length: u32) -> u32;
}

const HOPS: u8 = 64;

impl Unreachable for V4 {
    const UNREACHABLE: (u8, u8) = (3, 3);
    const TOO_BIG: (u8, u8) = (3, 4);

    #[inline(always)]
    fn length(header: &Ipv4) -> usize {
        u16::from_be(header.total_length.get()).into()
    }

    #[inline(always)]
    fn is_unicast(address: <V4 as Family>::Address) -> bool {
        // Neither "this network", loopback, multicast nor reserved (RFC 6890).
        let [first, ..] = address.octets;
        first != 0 && first != 127 && first < 224
    }

    #[inline(always)]
    fn write(header: &Ipv4, src: <V4 as Family>::Address, dst: <V4 as Family>::Address, payload: u16) {
        const VERSION_IHL_TOS: u16 = 0x4500_u16.to_be();
        const TTL_PROTOCOL: u16 = u16::from_be_bytes([HOPS, V4::ICMP]).to_be();

        let length = (size_of::<Ipv4>() as u16 + payload).to_be();
        header.version_ihl.set(0x45);
        header.tos.set(0);
        header.total_length.set(length);
        header.identification.set(0);
        header.fragment.set(0);
        header.ttl.set(HOPS);
        header.protocol.set(V4::ICMP);
        header.src.set(src);
        header.dst.set(dst);
        let words = u32::from(VERSION_IHL_TOS) + u32::from(TTL_PROTOCOL) + u32::from(length);
        header.checksum.set(!checksum::fold(words + src.sum() + dst.sum()));
    }

    #[inline(always)]
    fn pseudo_header(_: <V4 as Family>::Address, _: <V4 as Family>::Address, _: u32) -> u32 {
        0 // RFC 792 has none
    }
}

impl Unreachable for V6 {
    const UNREACHABLE: (u8, u8) = (1, 4);
    const TOO_BIG: (u8, u8) = (2, 0);

    #[inline(always)]
    fn length(header: &Ipv6) -> usize {
        size_of::<Ipv6>() + usize::from(u16::from_be(header.payload_length.get()))
    }

    #[inline(always)]
    fn is_unicast(address: <V6 as Family>::Address) -> bool {
        // Neither multicast nor unspecified (RFC 4443, section 2.4).
        address.octets[0] != 0xff && address.bits() != 0
    }

    #[inline(always)]
    fn write(header: &Ipv6, src: <V6 as Family>::Address, dst: <V6 as Family>::Address, payload: u16) {
        header.version_class.set(0x6000_u16.to_be());
        header.flow_label.set(0);
        header.payload_length.set(payload.to_be());
        header.next_header.set(V6::ICMP);
        header.hop_limit.set(HOPS);
        header.src.set(src);
        header.dst.set(dst);
    }

    #[inline(always)]
    fn pseudo_header(src: <V6 as Family>::Address, dst: <V6 as Family>::Address, length: u32) -> u32 {
        let words = (length as u16).to_be();
        src.sum() + dst.sum() + u32::from(words) + u32::from(u16::from(V6::ICMP).to_be())
    }
}
