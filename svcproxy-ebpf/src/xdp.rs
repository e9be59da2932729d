//! A packet as XDP sees it: a frame in memory and nothing else.

use aya_ebpf::{EbpfContext as _, bindings::xdp_action, helpers::bpf_redirect, programs::XdpContext};
use svcproxy_common::{
    Packet, Verdict,
    abi::{Address, Delivery},
    flow::NextHop,
    process,
    wire::{Be16, Wire},
};

use crate::{access::Frame, clock, fib, maps::Maps};

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
        Err(reason) if reason.drops() => xdp_action::XDP_DROP,
        Err(_) => xdp_action::XDP_PASS,
    }
}

impl Packet for XdpPacket<'_> {
    const DELIVERY: Delivery = Delivery::XDP;

    #[inline(always)]
    fn at<T: Wire>(&self, offset: usize) -> Option<&T> {
        self.frame.at(offset)
    }

    #[inline(always)]
    fn frame_len(&self) -> u32 {
        self.frame.len() as u32
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
    fn next_hop<A: Address>(&self, src: A, dst: A) -> NextHop {
        // SAFETY: the context of the running program.
        unsafe {
            fib::next_hop(
                self.ctx.as_ptr(),
                self.ctx.ingress_ifindex() as u32,
                Self::DELIVERY,
                src,
                dst,
            )
        }
    }

    #[inline(always)]
    fn fix_checksum<A: Address>(
        &self,
        field: &Be16,
        _offset: usize,
        address_delta: u16,
        port_delta: u16,
        udp: bool,
    ) -> bool {
        field.set(process::updated_checksum(field.get(), address_delta, port_delta, udp));
        true
    }
}
