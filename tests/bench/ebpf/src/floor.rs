//! The least that a proxy can do with a packet, step by step: read it, translate it, open a connection for it.
//!
//! What is here is done as cheaply as we know; what is not here (fragments, ICMP errors, states, expiry, fragments'
//! ports, MTU, endpoints, masquerading) is what svcproxy's programs do beyond it.

use aya_ebpf::{
    bindings::{BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    helpers::{bpf_jiffies64, bpf_l4_csum_replace, bpf_redirect},
    programs::{TcContext, XdpContext},
};
use svcproxy_common::{
    abi::{FlowEntry, FlowKey, FlowState, Protocol},
    checksum,
    flow::NextHop,
    wire::{Ethernet, Field, HardwareAddresses, Tcp, Vlan},
};

use crate::{access::Frame, family::Family, tables::TRANSLATED};

/// TCP's FIN, SYN and RST.
const CONTROL_FLAGS: u8 = 0x07;
/// The port of [`Family::BACKEND`].
const BACKEND_PORT: u16 = 8080;

/// A TCP packet, read.
struct Parsed<'a, F: Family> {
    key: FlowKey<F::Address>,
    addresses: &'a Field<HardwareAddresses, 12>,
    header: &'a F::Header,
    tcp: &'a Tcp,
    /// Where `tcp` is in the frame.
    offset: usize,
}

#[inline(always)]
fn parse<F: Family>(frame: &Frame) -> Option<Parsed<'_, F>> {
    const VLAN: u16 = 0x8100_u16.to_be();
    const TCP: u8 = 6;

    let ethernet: &Ethernet = frame.at(0)?;
    let (mut ethertype, mut offset) = (ethernet.ethertype.get(), size_of::<Ethernet>());
    if ethertype == VLAN {
        let tag: &Vlan = frame.at(offset)?;
        (ethertype, offset) = (tag.ethertype.get(), offset + size_of::<Vlan>());
    }
    if ethertype != F::ETHERTYPE {
        return None;
    }
    let header: &F::Header = frame.at(offset)?;
    let (length, protocol) = F::read(header)?;
    if protocol != TCP {
        return None;
    }
    let tcp: &Tcp = frame.at(offset + length)?;
    let (src, dst) = F::addresses(header);
    let mut key = FlowKey {
        src,
        dst,
        src_port: 0,
        dst_port: 0,
        protocol: Protocol::TCP,
    };
    key.set_ports((u16::from_be(tcp.ports.src.get()), u16::from_be(tcp.ports.dst.get())));
    Some(Parsed {
        key,
        addresses: frame.at(0)?,
        header,
        tcp,
        offset: offset + length,
    })
}

/// Whether the headers can be read and are not absurd: all fields of the key count.
#[inline(always)]
fn is_sound<F: Family>(frame: &Frame) -> bool {
    match parse::<F>(frame) {
        Some(packet) => packet.key.src != packet.key.dst && packet.key.src_port != packet.key.dst_port,
        None => false,
    }
}

#[inline(always)]
pub(crate) fn parse_xdp<F: Family>(ctx: &XdpContext) -> u32 {
    match is_sound::<F>(&Frame::new(ctx.data(), ctx.data_end())) {
        true => xdp_action::XDP_TX,
        false => xdp_action::XDP_DROP,
    }
}

#[inline(always)]
pub(crate) fn parse_tc<F: Family>(ctx: &TcContext) -> i32 {
    match is_sound::<F>(&Frame::new(ctx.data(), ctx.data_end())) {
        true => TC_ACT_UNSPEC,
        false => TC_ACT_SHOT,
    }
}

/// A packet with all but its transport checksum translated.
struct Translated<'a> {
    tcp: &'a Tcp,
    offset: usize,
    address_delta: u16,
    port_delta: u16,
    ifindex: u32,
}

#[inline(always)]
fn translate<F: Family>(frame: &Frame) -> Option<Translated<'_>> {
    let packet = parse::<F>(frame)?;
    // SAFETY: a slot that the kernel has just returned, and that only this program writes to.
    let entry = unsafe { &mut *F::entry(&packet.key)? };
    if packet.tcp.flags.get() & CONTROL_FLAGS != 0 {
        entry.state = FlowState::CLOSING;
    }
    // SAFETY: the helper takes nothing and always succeeds.
    entry.last_seen = unsafe { bpf_jiffies64() } as u32;
    if let Some(count) = TRANSLATED.get_ptr_mut(0) {
        // SAFETY: this CPU's own slot.
        unsafe { *count += 1 };
    }
    Some(rewrite(&packet, entry))
}

#[inline(always)]
fn rewrite<'a, F: Family>(packet: &Parsed<'a, F>, entry: &FlowEntry<F::Address>) -> Translated<'a> {
    packet.addresses.set(entry.hardware_addresses());
    F::forward(packet.header, entry.src, entry.dst, entry.address_delta);
    packet.tcp.ports.src.set(entry.src_port.to_be());
    packet.tcp.ports.dst.set(entry.dst_port.to_be());
    Translated {
        tcp: packet.tcp,
        offset: packet.offset,
        address_delta: entry.address_delta,
        port_delta: entry.port_delta,
        ifindex: entry.ifindex,
    }
}

/// XDP writes the checksum itself.
#[inline(always)]
fn send_xdp(translated: Option<Translated<'_>>) -> u32 {
    let Some(packet) = translated else {
        return xdp_action::XDP_DROP;
    };
    let deltas = u32::from(packet.address_delta) + u32::from(packet.port_delta);
    packet
        .tcp
        .checksum
        .set(checksum::update(packet.tcp.checksum.get(), deltas));
    xdp_action::XDP_TX
}

/// At tc the kernel knows what the hardware has left of the checksum: both of its helpers' calls are needed.
#[inline(always)]
fn send_tc(ctx: &TcContext, translated: Option<Translated<'_>>) -> i32 {
    let Some(packet) = translated else {
        return TC_ACT_SHOT;
    };
    let field = (packet.offset + core::mem::offset_of!(Tcp, checksum)) as u32;
    let replace = |delta: u16, flags: u32| {
        // SAFETY: the skb of the running program; the helper checks the offset.
        unsafe { bpf_l4_csum_replace(ctx.skb.skb, field, 0, delta.into(), flags.into()) == 0 }
    };
    if !replace(packet.address_delta, BPF_F_PSEUDO_HDR) || !replace(packet.port_delta, 0) {
        return TC_ACT_SHOT;
    }
    // SAFETY: the helper takes two numbers.
    (unsafe { bpf_redirect(packet.ifindex, 0) }) as i32
}

#[inline(always)]
pub(crate) fn nat_xdp<F: Family>(ctx: &XdpContext) -> u32 {
    send_xdp(translate::<F>(&Frame::new(ctx.data(), ctx.data_end())))
}

#[inline(always)]
pub(crate) fn nat_tc<F: Family>(ctx: &TcContext) -> i32 {
    send_tc(ctx, translate::<F>(&Frame::new(ctx.data(), ctx.data_end())))
}

/// Misses once, stores both directions and translates.
#[inline(always)]
fn open<F: Family>(frame: &Frame) -> Option<Translated<'_>> {
    let packet = parse::<F>(frame)?;
    let key = &packet.key;
    if let Some(entry) = F::opened(key) {
        // SAFETY: a slot that the kernel has just returned, and that only this program writes to.
        return Some(rewrite(&packet, unsafe { &*entry }));
    }
    // SAFETY: the helper takes nothing and always succeeds.
    let now = unsafe { bpf_jiffies64() } as u32;
    let reply = FlowKey {
        src: F::BACKEND,
        dst: key.src,
        src_port: BACKEND_PORT,
        dst_port: key.src_port,
        protocol: key.protocol,
    };
    let mut entry = FlowEntry::blank(key.dst);
    let (vip, client) = ((key.dst, key.dst_port), (key.src, key.src_port));
    entry.fill(&reply, vip, client, FlowState::AWAIT_REPLY, now);
    if !F::insert(&reply, &entry) {
        return None;
    }
    entry.reverse(&reply, NextHop::ROUTING, FlowState::SYN_SENT);
    F::insert(key, &entry).then(|| rewrite(&packet, &entry))
}

#[inline(always)]
pub(crate) fn open_xdp<F: Family>(ctx: &XdpContext) -> u32 {
    send_xdp(open::<F>(&Frame::new(ctx.data(), ctx.data_end())))
}

#[inline(always)]
pub(crate) fn open_tc<F: Family>(ctx: &TcContext) -> i32 {
    send_tc(ctx, open::<F>(&Frame::new(ctx.data(), ctx.data_end())))
}
