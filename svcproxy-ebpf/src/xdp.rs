//! A packet as XDP sees it: a frame in memory and nothing else.

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_action,
    helpers::{bpf_redirect, bpf_xdp_adjust_meta},
    programs::XdpContext,
};
use svcproxy_common::{
    ChecksumChange, Fate, Packet, Route, Verdict,
    abi::{Address, Delivery},
    process,
    wire::{Be16, Field, Wire},
};

use crate::{access::Frame, clock, fib, maps::Maps};

/// The metadata before a frame that XDP has left to tc.
pub(crate) type Mark = Field<u32, 4>;
/// Its value: "svcp".
pub(crate) const LEFT_TO_TC: u32 = 0x7376_6370;

/// A frame at XDP, and the program that looks at it.
struct XdpPacket<'a> {
    ctx: &'a XdpContext,
    frame: Frame,
}

/// Runs the decision code on a frame and turns its verdict into XDP's.
#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> u32 {
    let packet = XdpPacket {
        ctx,
        frame: Frame::new(ctx.data(), ctx.data_end()),
    };
    match Maps::counted(process(&packet, &Maps)) {
        Ok(Verdict::Route) => xdp_action::XDP_PASS,
        Ok(Verdict::Send { ifindex }) if ifindex as usize == ctx.ingress_ifindex() => xdp_action::XDP_TX,
        // SAFETY: the helper takes two numbers; a bad one makes the kernel drop the frame.
        Ok(Verdict::Send { ifindex }) => (unsafe { bpf_redirect(ifindex, 0) }) as u32,
        Err(reason) => match reason.fate() {
            Fate::Pass => xdp_action::XDP_PASS,
            Fate::Drop => xdp_action::XDP_DROP,
            Fate::Reject | Fate::Defer => leave_to_tc(ctx),
        },
    }
}

/// Marks the frame for [`tc::after_xdp`](crate::tc::after_xdp). XDP could answer for a Service without endpoints itself,
/// but not send the answer everywhere: `XDP_TX` on a veth needs an XDP program at its other end, or the frame vanishes.
#[inline(always)]
fn leave_to_tc(ctx: &XdpContext) -> u32 {
    // SAFETY: the context of the running program.
    if unsafe { bpf_xdp_adjust_meta(ctx.ctx, -(size_of::<Mark>() as i32)) } != 0 {
        return xdp_action::XDP_DROP; // a driver without metadata
    }
    match Frame::new(ctx.metadata(), ctx.metadata_end()).at::<Mark>(0) {
        Some(mark) => mark.set(LEFT_TO_TC),
        None => return xdp_action::XDP_DROP,
    }
    xdp_action::XDP_PASS
}

impl Packet for XdpPacket<'_> {
    const ROUTED: bool = false;
    const PLAIN: bool = true;
    const DELIVERY: Delivery = Delivery::XDP;

    #[inline(always)]
    fn opaque<T: Copy>(&self, value: T) -> T {
        value // plain packets are few cases
    }

    #[inline(always)]
    fn at<T: Wire>(&self, offset: usize) -> Option<&T> {
        self.frame.at(offset)
    }

    #[inline(always)]
    fn frame_len(&self) -> u32 {
        self.frame.len() as u32
    }

    #[inline(always)]
    fn tagged(&self) -> bool {
        false // a tag is in the frame, unless the NIC strips it: `ethtool -K DEV rxvlan off` for XDP
    }

    #[inline(always)]
    fn segment_payload(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        clock::now()
    }

    #[inline(always)]
    fn route<A: Address>(&self, src: Option<A>, dst: A) -> Route<A> {
        // SAFETY: the context of the running program.
        unsafe {
            fib::route(
                self.ctx.as_ptr(),
                self.ctx.ingress_ifindex() as u32,
                Self::DELIVERY,
                src,
                dst,
            )
        }
    }

    #[inline(always)]
    fn fix_checksum(&self, field: &Be16, _offset: usize, change: ChecksumChange) -> bool {
        field.set(change.apply(field.get()));
        true
    }
}
