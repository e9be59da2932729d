//! Makes the next packet out of the last, and goes on to the program under test.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{TC_ACT_SHOT, xdp_action},
    helpers::{bpf_redirect, bpf_xdp_adjust_meta},
    programs::{TcContext, XdpContext},
};
use svcproxy_common::wire::{Be16, Ethernet, Ports, Wire};

use crate::{
    access::Frame,
    control::{FIRST, INTERFACE, MASK, NEXT, TARGET},
    family::Family,
    tables::{CONTROL, HEADERS, TC_PROGRAMS, XDP_PROGRAMS},
};

/// Drops the packet when there is no program to go on to, or no tuple: no program under test does so.
#[inline(always)]
pub(crate) fn xdp<F: Family>(ctx: &XdpContext) -> u32 {
    let metadata = ctx.data().wrapping_sub(ctx.metadata());
    if metadata != 0 {
        // What the last program has put before the frame.
        // SAFETY: the context of the running program.
        unsafe { bpf_xdp_adjust_meta(ctx.as_ptr().cast(), metadata as i32) };
    }
    if let Some(target) = make::<F>(&Frame::new(ctx.data(), ctx.data_end())) {
        // SAFETY: nothing here waits to be dropped.
        unsafe { XDP_PROGRAMS.tail_call(ctx, target) };
    }
    xdp_action::XDP_ABORTED
}

/// Sends what has been made, under fresh headers: the second half of a source of traffic.
#[inline(always)]
pub(crate) fn send(ctx: &XdpContext) -> u32 {
    let frame = Frame::new(ctx.data(), ctx.data_end());
    let (Some(control), Some(words), Some(fields)) = (CONTROL.get(0), HEADERS.get(0), frame.at::<Headers>(0)) else {
        return xdp_action::XDP_ABORTED;
    };
    for (field, word) in fields.0.iter().zip(words) {
        field.set(*word);
    }
    // SAFETY: the helper takes two numbers.
    (unsafe { bpf_redirect(control[INTERFACE], 0) }) as u32
}

/// Ethernet and IPv4 header.
#[repr(transparent)]
struct Headers([Be16; 17]);

// SAFETY: an array of byte fields: alignment 1, no padding, any bits are valid.
unsafe impl Wire for Headers {}

/// The same at tc.
#[inline(always)]
pub(crate) fn tc<F: Family>(ctx: &TcContext) -> i32 {
    if let Some(target) = make::<F>(&Frame::new(ctx.data(), ctx.data_end())) {
        // SAFETY: as above.
        unsafe { TC_PROGRAMS.tail_call(ctx, target) };
    }
    TC_ACT_SHOT
}

/// Writes the packet; says where it goes.
#[inline(always)]
fn make<F: Family>(frame: &Frame) -> Option<u32> {
    // SAFETY: one program runs at a time, and the bench writes only between runs.
    let control = unsafe { &mut *CONTROL.get_ptr_mut(0)? };
    let tuple = F::tuple(control[FIRST] + (control[NEXT] & control[MASK]))?;
    control[NEXT] = control[NEXT].wrapping_add(1);
    let header: &F::Header = frame.at(size_of::<Ethernet>())?;
    let ports: &Ports = frame.at(size_of::<Ethernet>() + size_of::<F::Header>())?;
    F::fill(header, tuple.src, tuple.dst);
    ports.src.set(tuple.src_port.to_be());
    ports.dst.set(tuple.dst_port.to_be());
    Some(control[TARGET])
}
