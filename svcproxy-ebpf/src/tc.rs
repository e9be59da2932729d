//! A packet as tc sees it: an skb, which may be many packets to be cut apart later (GSO), may have its checksum left
//! to the hardware (`CHECKSUM_PARTIAL`), and may have only its first bytes in one piece of memory.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::{bpf_csum_update, bpf_l4_csum_replace, bpf_redirect_peer},
    programs::TcContext,
};
use svcproxy_common::{
    ChecksumChange, Packet, Reason, Verdict,
    abi::{Address, Delivery},
    checksum,
    flow::NextHop,
    wire::{Be16, Wire},
};

use crate::{access::Frame, clock, fib, maps::Maps};

/// Ethernet, the longest IPv4 header, TCP: what must be in one piece to be looked at.
const HEADERS: u32 = 14 + 60 + 20;

/// An skb on its way in (`IN`) or out, and the program that looks at it.
struct TcPacket<'a, const IN: bool> {
    ctx: &'a TcContext,
    frame: Frame,
}

/// Runs the decision code on an skb and turns its verdict into tc's. What is not ours is left to the next program
/// (`TCX_NEXT`), as is what the kernel shall route.
#[inline(always)]
pub(crate) fn run<const IN: bool>(ctx: &TcContext) -> i32 {
    match Maps::counted(translate::<IN>(ctx)) {
        Ok(Verdict::Route) => TC_ACT_UNSPEC,
        // SAFETY: the helper takes two numbers; a bad one makes the kernel drop the packet.
        Ok(Verdict::Send { ifindex }) => (unsafe { bpf_redirect_peer(ifindex, 0) }) as i32,
        Err(reason) if reason.drops() => TC_ACT_SHOT,
        Err(_) => TC_ACT_UNSPEC,
    }
}

#[inline(always)]
fn translate<const IN: bool>(ctx: &TcContext) -> Result<Verdict, Reason> {
    // SAFETY: the context of the running program.
    let tagged = unsafe { (*ctx.skb.skb).vlan_present } != 0;
    if tagged {
        return Err(Reason::NotIp); // the tag stands beside the frame; with it in the frame XDP says the same
    }
    if ctx.data_end() - ctx.data() < HEADERS as usize && ctx.len() as usize > ctx.data_end() - ctx.data() {
        let wanted = if ctx.len() < HEADERS { ctx.len() } else { HEADERS };
        ctx.pull_data(wanted).map_err(|_| Reason::Truncated)?;
    }
    let packet = TcPacket::<IN> {
        ctx,
        frame: Frame::new(ctx.data(), ctx.data_end()),
    };
    svcproxy_common::process(&packet, &Maps)
}

impl<const IN: bool> Packet for TcPacket<'_, IN> {
    const ROUTED: bool = !IN;
    const DELIVERY: Delivery = Delivery::PEER;

    #[inline(always)]
    fn at<T: Wire>(&self, offset: usize) -> Option<&T> {
        self.frame.at(offset)
    }

    #[inline(always)]
    fn frame_len(&self) -> u32 {
        self.ctx.len()
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
    fn next_hop<A: Address>(&self, src: A, dst: A) -> NextHop {
        if !IN {
            return NextHop::ROUTING;
        }
        // SAFETY: the context of the running program.
        unsafe {
            let ifindex = (*self.ctx.skb.skb).ifindex;
            fib::next_hop(self.ctx.as_ptr(), ifindex, Self::DELIVERY, src, dst)
        }
    }

    #[inline(always)]
    fn fix_checksum(&self, _field: &Be16, offset: usize, change: ChecksumChange) -> bool {
        let udp = if change.udp { BPF_F_MARK_MANGLED_0.into() } else { 0 };
        // A length of 0 in the flags means that the value is the difference itself.
        let replace = |delta: u16, flags: u64| {
            // SAFETY: the skb of the running program; the helper checks the offset.
            unsafe { bpf_l4_csum_replace(self.ctx.skb.skb, offset as u32, 0, delta.into(), flags | udp) == 0 }
        };
        // In a CHECKSUM_PARTIAL skb the field holds the sum of the pseudo-header alone: addresses count, ports do not.
        if !replace(change.address_delta, BPF_F_PSEUDO_HDR.into()) {
            return false;
        }
        if change.ipv6 {
            // In a CHECKSUM_COMPLETE skb the helper makes up for an address change that the IPv4 header's checksum has
            // cancelled. IPv6 has none, so the new addresses and the new checksum cancel each other, and what was made
            // up is taken back. The flag that says so in one call, BPF_F_IPV6, makes a kernel before 6.16 refuse it.
            // SAFETY: the skb of the running program; in other skbs the helper changes nothing.
            unsafe { bpf_csum_update(self.ctx.skb.skb, change.address_delta.into()) };
        }
        checksum::is_zero(change.port_delta) || replace(change.port_delta, 0)
    }
}
