//! A packet as XDP sees it: a frame in memory and nothing else.

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_action,
    helpers::{bpf_redirect, bpf_xdp_adjust_meta},
    programs::XdpContext,
};
use svcproxy_common::{
    ChecksumChange, Fate, Packet, Reason, Route, SocketTuple, Tables, Verdict,
    abi::{self, Address, Delivery, FlowKey, Metadata, Protocol, RpFilter, XdpInterface},
    connection::Attended,
    flow::TcpFlags,
    process,
    verifier::barrier,
    wire::{Be16, Field, Wire},
};

use crate::{
    access::Frame,
    clock, fib,
    global::{self, by_family},
    maps::{Maps, XDP_INTERFACES},
};

/// The metadata before a frame that XDP has left to tc.
#[repr(C)]
pub(crate) struct Mark {
    /// [`MARKED`], or it is someone else's metadata.
    pub(crate) marked: Field<u32, 4>,
    /// The interface that the frame, translated already, goes out by; 0 for one that tc shall look at itself.
    pub(crate) ifindex: Field<u32, 4>,
    /// How it gets there: a [`Delivery`].
    pub(crate) delivery: Field<u32, 4>,
}

// SAFETY: `repr(C)` of byte fields: alignment 1, no padding, any bits are valid.
unsafe impl Wire for Mark {}

/// "svcp"
pub(crate) const MARKED: u32 = 0x7376_6370;

/// A frame at XDP, and the program that looks at it.
pub(crate) struct XdpPacket<'a> {
    ctx: &'a XdpContext,
    frame: Frame,
}

/// Runs the decision code on a frame.
#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> u32 {
    let outcome = match process(&XdpPacket::new(ctx), &Maps) {
        Err(reason) if reason.fate() == Fate::Reject => Err(Reason::NotPlain), // tc answers, and counts
        outcome => outcome,
    };
    match Maps::counted(outcome) {
        Ok(action) => action,
        Err(reason) => match reason.fate() {
            Fate::Pass => xdp_action::XDP_PASS,
            Fate::Defer | Fate::Reject => leave_to_tc(ctx, 0, Delivery::ROUTING),
            Fate::Drop => xdp_action::XDP_DROP,
        },
    }
}

/// What is known of the interface with this ifindex, if it runs XDP.
#[inline(always)]
pub(crate) fn interface(ifindex: u32) -> Option<*mut XdpInterface> {
    let entry = barrier(XDP_INTERFACES.get_ptr_mut(ifindex % abi::XDP_INTERFACES)?);
    // SAFETY: an entry of the array. The daemon writes it before the interface runs this program.
    (unsafe { (*entry).ifindex } == ifindex).then_some(entry)
}

/// Whether its driver has metadata.
#[inline(always)]
pub(crate) fn metadata(ifindex: u32) -> Metadata {
    match interface(ifindex) {
        // SAFETY: an entry of the array; all processors write the same.
        Some(entry) => unsafe { (&raw const (*entry).metadata).read_volatile() },
        None => Metadata::NO,
    }
}

/// Leaves the frame to [`tc::after_xdp`](crate::tc::after_xdp). XDP could answer for a Service without endpoints itself,
/// or send to a veth, but `XDP_TX` and redirection into a veth need an XDP program at its other end, or the frame
/// vanishes.
#[inline(always)]
fn leave_to_tc(ctx: &XdpContext, ifindex: u32, delivery: Delivery) -> u32 {
    // SAFETY: the context of the running program.
    let has_metadata = unsafe { bpf_xdp_adjust_meta(ctx.ctx, -(size_of::<Mark>() as i32)) } == 0;
    if let Some(entry) = interface(ctx.ingress_ifindex() as u32) {
        let found = if has_metadata { Metadata::YES } else { Metadata::NO };
        // SAFETY: an entry of the array; all processors write the same.
        unsafe {
            if (*entry).metadata != found {
                (&raw mut (*entry).metadata).write_volatile(found);
            }
        }
    }
    // Without metadata the frame has not been touched: tc looks at all that this interface takes in.
    if has_metadata && let Some(mark) = Frame::new(ctx.metadata(), ctx.metadata_end()).at::<Mark>(0) {
        mark.marked.set(MARKED);
        mark.ifindex.set(ifindex);
        mark.delivery.set(delivery as u32);
    }
    xdp_action::XDP_PASS
}

impl<'a> XdpPacket<'a> {
    /// The packet of a program's context.
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext) -> Self {
        Self {
            ctx,
            frame: Frame::new(ctx.data(), ctx.data_end()),
        }
    }
}

impl Packet for XdpPacket<'_> {
    const ROUTED: bool = false;
    const PLAIN: bool = true;

    type Sent = u32;

    #[inline(always)]
    fn opaque<T: Copy>(&self, value: T) -> T {
        value // plain packets are few cases
    }

    #[inline(always)]
    fn at<T: Wire>(&self, offset: usize) -> Option<&T> {
        self.frame.at_constant(offset) // of plain packets all are
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
    fn route<A: Address>(&self, src: A, dst: A, by_destination: bool) -> Route<A> {
        let ifindex = self.ctx.ingress_ifindex() as u32;
        fib::route(ifindex, src, dst, by_destination, |answer| {
            global::ask_xdp(self.ctx.ctx, answer);
        })
    }

    #[inline(always)]
    fn note_mtu(&self, _: u16) {} // tc answers, and finds it again

    #[inline(always)]
    fn has_socket<A: Address>(&self, tuple: &mut SocketTuple<A>, protocol: Protocol) -> bool {
        // SAFETY: the context of the running program.
        unsafe { fib::has_socket(self.ctx.as_ptr(), tuple, protocol) }
    }

    #[inline(always)]
    fn is_for_this_node(&self) -> bool {
        let Some(entry) = interface(self.ctx.ingress_ifindex() as u32) else {
            return true;
        };
        let (Some(high), Some(low)) = (self.at::<Field<u32, 4>>(0), self.at::<Field<u16, 2>>(4)) else {
            return true;
        };
        // SAFETY: the six bytes of an entry of the array, after its first four.
        let own = unsafe {
            let mac = (&raw const (*entry).mac).cast::<u8>();
            (mac.cast::<u32>().read(), mac.add(4).cast::<u16>().read())
        };
        // SAFETY: as above.
        (high.get(), low.get()) == own || unsafe { (*entry).is_port }
    }

    #[inline(always)]
    fn can_send(&self, delivery: Delivery) -> bool {
        // Until it is known that tc will be told, tc translates.
        delivery == Delivery::XDP || metadata(self.ctx.ingress_ifindex() as u32) == Metadata::YES
    }

    #[inline(always)]
    fn rp_filter(&self) -> RpFilter {
        fib::rp_filter(self.ctx.ingress_ifindex() as u32)
    }

    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn add_to_sum(&self, _: u16) {} // XDP's frames have none

    #[inline(always)]
    fn attend<A: Address, T: Tables<A>>(&self, _: &T, key: &FlowKey<A>, flags: TcpFlags, in_flows: bool) -> Attended {
        by_family!(
            A,
            attend_v4_xdp,
            attend_v6_xdp,
            (self.ctx.ctx, key, flags.0, in_flows, false)
        )
    }

    #[inline(always)]
    fn open<A: Address, T: Tables<A>>(&self, _: &T, key: &FlowKey<A>, now: u32, ended: bool) -> Result<(), Reason> {
        global::result(by_family!(A, open_v4_xdp, open_v6_xdp, (self.ctx.ctx, key, now, ended)))
    }

    #[inline(always)]
    fn fix_checksum(&self, field: &Be16, _offset: usize, change: ChecksumChange) -> bool {
        field.set(change.apply(field.get()));
        true
    }

    #[inline(always)]
    fn send(&self, Verdict { delivery, ifindex }: Verdict) -> u32 {
        match delivery {
            Delivery::ROUTING => xdp_action::XDP_PASS,
            Delivery::XDP if ifindex as usize == self.ctx.ingress_ifindex() => xdp_action::XDP_TX,
            // SAFETY: the helper takes two numbers; a bad one makes the kernel drop the frame.
            Delivery::XDP => (unsafe { bpf_redirect(ifindex, 0) }) as u32,
            delivery => leave_to_tc(self.ctx, ifindex, delivery),
        }
    }
}
