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

/// The route from `src`, or this node's own address, to `dst` for a packet that came in by `ifindex`.
///
/// # Safety
///
/// `ctx` is the context of the running XDP or tc program.
#[inline(always)]
pub(crate) unsafe fn route<A: Address>(ctx: *mut c_void, ifindex: u32, src: Option<A>, dst: A) -> Route<A> {
    /// `BPF_FIB_LOOKUP_SRC` (Linux 6.7): answer with the source address.
    const SRC: u32 = 1 << 4;
    const SUCCESS: i64 = 0;
    const NOT_FORWARDED: i64 = 4;
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
    if found != SUCCESS && found != NO_NEIGHBOUR {
        return Route {
            next_hop: NextHop::ROUTING,
            source: None,
            here: found == NOT_FORWARDED,
        };
    }
    // SAFETY: ours, or written by the kernel before it looks for the neighbour.
    let source = Some(A::from_fib(unsafe { params.__bindgen_anon_3.ipv6_src }));
    let mut next_hop = NextHop {
        delivery: Delivery::NEIGHBOUR,
        ifindex: params.ifindex,
        // Not known before the neighbour is.
        mtu: u16::MAX,
        dst_mac: params.dmac,
        src_mac: params.smac,
    };
    if found == SUCCESS {
        // SAFETY: the kernel has written the MTU over the length.
        next_hop.mtu = unsafe { params.__bindgen_anon_1.mtu_result };
        // SAFETY: read once, before any change to the map by this program.
        if let Some(interface) = unsafe { INTERFACES.get(params.ifindex) } {
            next_hop.delivery = interface.delivery;
        }
    }
    Route {
        next_hop,
        source,
        here: false,
    }
}
