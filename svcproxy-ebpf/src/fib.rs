//! The next hop of a rewritten packet, from the kernel's routing and neighbour tables. Asked once per connection and
//! second, never per packet.

use core::ffi::c_void;

use aya_ebpf::{bindings::bpf_fib_lookup as FibParams, helpers::bpf_fib_lookup};
use svcproxy_common::{
    Route,
    abi::{Address, Delivery},
    flow::NextHop,
};

use crate::maps::INTERFACES;

/// The route from `src`, or this node's own address, to `dst` for a packet that came in by `ifindex`. Its next hop is the
/// kernel's to find unless it lies behind an interface that allows `delivery` and its hardware address is known.
///
/// # Safety
///
/// `ctx` is the context of the running XDP or tc program.
#[inline(always)]
pub(crate) unsafe fn route<A: Address>(
    ctx: *mut c_void,
    ifindex: u32,
    delivery: Delivery,
    src: Option<A>,
    dst: A,
) -> Route<A> {
    /// `BPF_FIB_LOOKUP_SRC` (Linux 6.7): answer with the source address.
    const SRC: u32 = 1 << 4;
    const SUCCESS: i64 = 0;
    const NO_NEIGHBOUR: i64 = 7;

    // SAFETY: a plain C struct of integers; zero is what the kernel asks of its unused fields.
    let mut params: FibParams = unsafe { core::mem::zeroed() };
    params.family = A::AF;
    params.ifindex = ifindex;
    // One byte fits everywhere; a length makes the kernel answer with the MTU of the route in its place (Linux 5.12).
    params.__bindgen_anon_1.tot_len = 1;
    params.__bindgen_anon_4.ipv6_dst = dst.fib();
    let mut flags = SRC;
    if let Some(src) = src {
        params.__bindgen_anon_3.ipv6_src = src.fib();
        flags = 0;
    }
    // SAFETY: `ctx` by this function's contract; `params` is on our stack and of the size given.
    let found = unsafe { bpf_fib_lookup(ctx, &raw mut params, size_of::<FibParams>() as i32, flags) };
    let source = match found {
        // SAFETY: ours, or written by the kernel before it looks for the neighbour.
        SUCCESS | NO_NEIGHBOUR => Some(A::from_fib(unsafe { params.__bindgen_anon_3.ipv6_src })),
        _ => None,
    };
    let mut next_hop = NextHop::ROUTING;
    if found == SUCCESS
        // SAFETY: read once, before any change to the map by this program.
        && let Some(interface) = unsafe { INTERFACES.get(params.ifindex) }
        && interface.delivery == delivery
    {
        next_hop = NextHop {
            delivery,
            ifindex: params.ifindex,
            // SAFETY: the kernel has written the MTU over the length.
            mtu: unsafe { params.__bindgen_anon_1.mtu_result },
            dst_mac: params.dmac,
            src_mac: params.smac,
        };
    }
    Route { next_hop, source }
}
