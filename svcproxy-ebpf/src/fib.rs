//! The next hop of a rewritten packet, from the kernel's routing and neighbour tables. Asked once per connection and
//! second, never per packet.

use core::ffi::c_void;

use aya_ebpf::{bindings::bpf_fib_lookup as FibParams, helpers::bpf_fib_lookup};
use svcproxy_common::{
    abi::{Address, Delivery},
    flow::NextHop,
};

use crate::maps::INTERFACES;

/// The next hop from `src` to `dst` for a packet that came in by `ifindex`, if it lies behind an interface that allows
/// `delivery`. Anything else, an unresolved neighbour included, is left to the kernel's routing.
///
/// # Safety
///
/// `ctx` is the context of the running XDP or tc program.
#[inline(always)]
pub(crate) unsafe fn next_hop<A: Address>(
    ctx: *mut c_void,
    ifindex: u32,
    delivery: Delivery,
    src: A,
    dst: A,
) -> NextHop {
    let mut params = params(ifindex, src, dst);
    // SAFETY: by this function's contract.
    if unsafe { lookup(ctx, &mut params, 0) } != 0 {
        return NextHop::ROUTING;
    }
    // SAFETY: read once, before any change to the map by this program.
    match unsafe { INTERFACES.get(params.ifindex) } {
        Some(interface) if interface.delivery == delivery => NextHop {
            delivery,
            ifindex: params.ifindex,
            // SAFETY: the kernel has written the MTU over the length.
            mtu: unsafe { params.__bindgen_anon_1.mtu_result },
            dst_mac: params.dmac,
            src_mac: params.smac,
        },
        _ => NextHop::ROUTING,
    }
}

/// The address that the kernel would use as this node's own towards `dst`.
///
/// # Safety
///
/// `ctx` is the context of the running XDP or tc program.
#[inline(always)]
pub(crate) unsafe fn source_address<A: Address>(ctx: *mut c_void, ifindex: u32, dst: A) -> Option<A> {
    /// `BPF_FIB_LOOKUP_SKIP_NEIGH` (Linux 6.3): its hardware address does not matter here.
    const SKIP_NEIGH: u32 = 1 << 3;
    /// `BPF_FIB_LOOKUP_SRC` (Linux 6.7).
    const SRC: u32 = 1 << 4;

    let mut params = params(ifindex, A::from_fib([0; 4]), dst);
    // SAFETY: by this function's contract.
    let found = unsafe { lookup(ctx, &mut params, SKIP_NEIGH | SRC) };
    // SAFETY: the kernel has written the source address.
    (found == 0).then(|| A::from_fib(unsafe { params.__bindgen_anon_3.ipv6_src }))
}

#[inline(always)]
fn params<A: Address>(ifindex: u32, src: A, dst: A) -> FibParams {
    // SAFETY: a plain C struct of integers; zero is what the kernel asks of its unused fields.
    let mut params: FibParams = unsafe { core::mem::zeroed() };
    params.family = A::AF;
    params.ifindex = ifindex;
    // One byte fits everywhere; a length makes the kernel answer with the MTU of the route in its place (Linux 5.12).
    params.__bindgen_anon_1.tot_len = 1;
    params.__bindgen_anon_3.ipv6_src = src.fib();
    params.__bindgen_anon_4.ipv6_dst = dst.fib();
    params
}

/// # Safety
///
/// `ctx` is the context of the running XDP or tc program.
#[inline(always)]
unsafe fn lookup(ctx: *mut c_void, params: &mut FibParams, flags: u32) -> i64 {
    // SAFETY: `ctx` by this function's contract; `params` is on our stack and of the size given.
    unsafe { bpf_fib_lookup(ctx, params, size_of::<FibParams>() as i32, flags) }
}
