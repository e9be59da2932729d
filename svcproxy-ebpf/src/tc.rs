//! A packet as tc sees it: an skb, which may be many packets to be cut apart later (GSO), may have its checksum left
//! to the hardware (`CHECKSUM_PARTIAL`), and may have only its first bytes in one piece of memory.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::{bpf_csum_update, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer},
    programs::TcContext,
};
use svcproxy_common::{
    ChecksumChange, Fate, Packet, Reason, Route, SocketTuple, Tables, Verdict,
    abi::{Address, Delivery, FlowKey, Metadata, Protocol, RpFilter},
    checksum,
    connection::Attended,
    flow::TcpFlags,
    process,
    wire::{Be16, Wire},
};

use crate::{
    access::Frame,
    clock, fib,
    global::{self, by_family},
    maps::{INTERFACES, Maps, PROGRAMS, Successor},
    reject, reorder, reset,
    xdp::{self, MARKED, Mark},
};

/// Bytes that must be in one piece of memory: enough for an ICMP error with all it quotes. Drivers that keep headers
/// apart from payload leave at least this much in the head (virtio-net's `GOOD_COPY_LEN`), so that this costs nothing.
const HEADERS: u32 = 128;

/// `tc_index` of an skb that a program has sent: the one where it leaves need not look whether it is a reply. Not the mark,
/// which is the node's own, and taken off again there, for an skb may go on into another namespace.
const SENT: u32 = 0x7370; // "ps"

/// An skb on its way in (`IN`) or out, and the program that looks at it: that for plain packets or that for any.
pub(crate) struct TcPacket<'a, const IN: bool, const PLAIN: bool> {
    ctx: &'a TcContext,
    frame: Frame,
}

/// Runs the decision code on an skb. What is not ours is left to the next program
/// (`TCX_NEXT`), as is what the kernel shall route.
#[inline(always)]
pub(crate) fn run<const IN: bool, const PLAIN: bool>(ctx: &TcContext) -> i32 {
    match Maps::counted(translate::<IN, PLAIN>(ctx)) {
        Ok(action) => action,
        Err(Reason::EndpointUnreachable) => reset::reset(ctx),
        Err(Reason::TooBig) => reject::too_big(ctx),
        Err(Reason::Fragment | Reason::Reordered) if IN && !PLAIN => defer(ctx, Successor::Reorder),
        Err(reason) => match reason.fate() {
            Fate::Pass => TC_ACT_UNSPEC,
            Fate::Defer => defer(ctx, if IN { Successor::In } else { Successor::Out }),
            Fate::Drop => TC_ACT_SHOT,
            Fate::Reject => reject::port_unreachable(ctx),
        },
    }
}

/// Carries out what XDP has left to tc; every other packet goes on at the price of a comparison.
#[inline(always)]
pub(crate) fn after_xdp(ctx: &TcContext) -> i32 {
    // SAFETY: the context of the running program.
    let metadata = unsafe { (*ctx.skb.skb).data_meta } as usize;
    match Frame::new(metadata, ctx.data()).at::<Mark>(0) {
        Some(mark) if mark.marked.get() == MARKED => match mark.ifindex.get() {
            0 => defer(ctx, Successor::In),
            ifindex => send(ctx, ifindex, mark.delivery.get()),
        },
        _ if reorder::comes_again(ctx) => defer(ctx, Successor::In),
        // SAFETY: the context of the running program.
        _ if xdp::metadata(unsafe { (*ctx.skb.skb).ingress_ifindex }) == Metadata::NO => defer(ctx, Successor::In),
        _ => TC_ACT_UNSPEC,
    }
}

/// Sends a translated packet. `delivery` is a [`Delivery`] that sends, as a number: it may come from a [`Mark`].
#[inline(always)]
fn send(ctx: &TcContext, ifindex: u32, delivery: u32) -> i32 {
    const PEER: u32 = Delivery::PEER as u32;
    const NEIGHBOUR: u32 = Delivery::NEIGHBOUR as u32;
    if delivery != PEER {
        // SAFETY: the skb of the running program.
        unsafe { (*ctx.skb.skb).tc_index = SENT };
    }
    // SAFETY: the helpers take numbers, that for a neighbour no parameters of a next hop: the kernel asks its routing for
    // it. A bad number makes it drop the packet.
    let verdict = unsafe {
        match delivery {
            PEER => bpf_redirect_peer(ifindex, 0),
            NEIGHBOUR => bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0),
            _ => bpf_redirect(ifindex, 0),
        }
    };
    verdict as i32
}

/// Goes on in another program.
#[inline(always)]
pub(crate) fn defer(ctx: &TcContext, successor: Successor) -> i32 {
    // SAFETY: nothing here waits to be dropped.
    unsafe { PROGRAMS.tail_call(ctx, successor as u32) };
    TC_ACT_UNSPEC // the daemon has not put it there yet
}

/// Looks at what leaves, unless it has been sent from here.
#[inline(always)]
pub(crate) fn run_out(ctx: &TcContext) -> i32 {
    // SAFETY: the skb of the running program.
    let tc_index = unsafe { &mut (*ctx.skb.skb).tc_index };
    if *tc_index == SENT {
        *tc_index = 0;
        return TC_ACT_UNSPEC;
    }
    run::<false, true>(ctx)
}

#[inline(always)]
fn translate<const IN: bool, const PLAIN: bool>(ctx: &TcContext) -> Result<i32, Reason> {
    if IN && !PLAIN {
        reorder::comes_again(ctx);
    }
    if !PLAIN {
        pull(ctx)?;
    }
    match process(&TcPacket::<IN, PLAIN>::new(ctx), &Maps) {
        Err(Reason::Truncated) if PLAIN && head(ctx) < ctx.len() => Err(Reason::NotPlain),
        result => result,
    }
}

/// Brings the headers into one piece of memory. Almost always they are, and what has payload elsewhere would be copied.
#[inline(always)]
pub(crate) fn pull(ctx: &TcContext) -> Result<(), Reason> {
    let wanted = if ctx.len() < HEADERS { ctx.len() } else { HEADERS };
    match head(ctx) < wanted {
        true => ctx.pull_data(wanted).map_err(|_| Reason::Truncated),
        false => Ok(()),
    }
}

/// Bytes that are in one piece of memory.
#[inline(always)]
fn head(ctx: &TcContext) -> u32 {
    (ctx.data_end() - ctx.data()) as u32
}

impl<'a, const IN: bool, const PLAIN: bool> TcPacket<'a, IN, PLAIN> {
    /// The packet of a program's context, as much of it as is in one piece of memory.
    #[inline(always)]
    pub(crate) fn new(ctx: &'a TcContext) -> Self {
        Self {
            ctx,
            frame: Frame::new(ctx.data(), ctx.data_end()),
        }
    }
}

impl<const IN: bool, const PLAIN: bool> Packet for TcPacket<'_, IN, PLAIN> {
    const ROUTED: bool = !IN;
    const PLAIN: bool = PLAIN;

    type Sent = i32;

    #[inline(always)]
    fn opaque<T: Copy>(&self, value: T) -> T {
        if PLAIN { value } else { Maps::opaque(value) }
    }

    #[inline(always)]
    fn at<T: Wire>(&self, offset: usize) -> Option<&T> {
        match PLAIN {
            true => self.frame.at_constant(offset),
            false => self.frame.at(offset),
        }
    }

    #[inline(always)]
    fn frame_len(&self) -> u32 {
        self.ctx.len()
    }

    #[inline(always)]
    fn tagged(&self) -> bool {
        // SAFETY: the context of the running program.
        unsafe { (*self.ctx.skb.skb).vlan_present != 0 }
    }

    #[inline(always)]
    fn segment_payload(&self) -> u32 {
        // SAFETY: the context of the running program.
        unsafe { (*self.ctx.skb.skb).gso_size }
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        clock::now()
    }

    #[inline(always)]
    fn route<A: Address>(&self, src: A, dst: A, by_destination: bool) -> Route<A> {
        // SAFETY: the context of the running program.
        let ifindex = unsafe { (*self.ctx.skb.skb).ifindex };
        fib::route(ifindex, src, dst, by_destination, |answer| {
            global::ask_tc(self.ctx.skb.skb, answer);
        })
    }

    #[inline(always)]
    fn note_mtu(&self, mtu: u16) {
        reject::note_mtu(self.ctx, mtu);
    }

    #[inline(always)]
    fn has_socket<A: Address>(&self, tuple: &mut SocketTuple<A>, protocol: Protocol) -> bool {
        // SAFETY: the context of the running program.
        unsafe { fib::has_socket(self.ctx.as_ptr(), tuple, protocol) }
    }

    #[inline(always)]
    fn is_for_this_node(&self) -> bool {
        /// `PACKET_HOST` (linux/if_packet.h)
        const HOST: u32 = 0;
        // SAFETY: the context of the running program.
        let skb = unsafe { &*self.ctx.skb.skb };
        // SAFETY: read once, before any change to the map by this program.
        !IN || skb.pkt_type == HOST || unsafe { INTERFACES.get(skb.ifindex) }.is_some_and(|interface| interface.is_port)
    }

    #[inline(always)]
    fn can_send(&self, _: Delivery) -> bool {
        true
    }

    #[inline(always)]
    fn rp_filter(&self) -> RpFilter {
        // SAFETY: the context of the running program.
        fib::rp_filter(unsafe { (*self.ctx.skb.skb).ifindex })
    }

    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        // SAFETY: as above. In a program at ingress both are the same; this one is what `route` asks with.
        let skb = unsafe { &*self.ctx.skb.skb };
        skb.ifindex
    }

    #[inline(always)]
    fn add_to_sum(&self, delta: u16) {
        if delta != 0 {
            // SAFETY: the skb of the running program; without such a sum the helper changes nothing.
            unsafe { bpf_csum_update(self.ctx.skb.skb, delta.into()) };
        }
    }

    #[inline(always)]
    fn attend<A: Address, T: Tables<A>>(&self, _: &T, key: &FlowKey<A>, flags: TcpFlags, in_flows: bool) -> Attended {
        by_family!(
            A,
            attend_v4_tc,
            attend_v6_tc,
            (self.ctx.skb.skb, key, flags.0, in_flows, !IN)
        )
    }

    #[inline(always)]
    fn open<A: Address, T: Tables<A>>(&self, _: &T, key: &FlowKey<A>, now: u32, ended: bool) -> Result<(), Reason> {
        global::result(by_family!(
            A,
            open_v4_tc,
            open_v6_tc,
            (self.ctx.skb.skb, key, now, ended)
        ))
    }

    #[inline(always)]
    fn crc32c_delta(&self, difference: u32, rest: u32) -> u32 {
        global::crc32c_delta(difference, rest)
    }

    #[inline(always)]
    fn fix_checksum(&self, field: &Be16, offset: usize, change: ChecksumChange) -> bool {
        let udp = if change.udp { BPF_F_MARK_MANGLED_0.into() } else { 0 };
        // A length of 0 in the flags means that the value is the difference itself.
        let replace = |delta: u16, flags: u64| {
            // SAFETY: the skb of the running program; the helper checks the offset.
            unsafe { bpf_l4_csum_replace(self.ctx.skb.skb, offset as u32, 0, delta.into(), flags | udp) == 0 }
        };
        if checksum::is_zero(change.address_delta) {
            return checksum::is_zero(change.port_delta) || replace(change.port_delta, 0);
        }
        // In a CHECKSUM_PARTIAL skb the field holds the sum of the pseudo-header alone: addresses count, ports do not.
        // In a CHECKSUM_COMPLETE skb the helper makes up for this field's change by the addresses, as if an IP header's
        // checksum had not: with `add_to_sum` that is right for IPv6 too, which has none. (The flag that says so,
        // BPF_F_IPV6, makes a kernel before 6.16 refuse the call.)
        let before = field.get();
        if !replace(change.address_delta, BPF_F_PSEUDO_HDR.into()) {
            return false;
        }
        // The helper takes as long as all the rest of a packet. What it has made of the field tells whether that is a
        // whole checksum, and then the ports are a matter of one more store.
        let frame = Frame::new(self.ctx.data(), self.ctx.data_end());
        let Some(field) = frame.at::<Be16>(offset) else {
            return false;
        };
        let after = field.get();
        if checksum::is_equal(after, checksum::update(before, change.address_delta.into())) {
            let ports = ChecksumChange {
                address_delta: 0,
                ..change
            };
            field.set(ports.apply(after));
        }
        true
    }

    #[inline(always)]
    fn send(&self, Verdict { delivery, ifindex }: Verdict) -> i32 {
        match delivery {
            Delivery::ROUTING => TC_ACT_UNSPEC,
            delivery => send(self.ctx, ifindex, delivery as u32),
        }
    }
}
