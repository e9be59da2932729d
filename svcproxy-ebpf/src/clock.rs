//! Time for three instructions a packet: jiffies, scaled to seconds.
//!
//! `bpf_ktime_get_coarse_ns` costs 16 ns, `bpf_jiffies64` 2. Jiffies follow CLOCK_MONOTONIC (`tick_do_update_jiffies64`
//! in kernel/time/tick-sched.c), so two constants that the daemon finds at start turn one into the other.

use aya_ebpf::{
    EbpfContext as _, Global,
    bindings::xdp_action,
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
    programs::XdpContext,
};
use svcproxy_common::wire::{Field, Wire};

use crate::{access::Frame, fib};

/// 2³² divided by the number of jiffies in a second (CONFIG_HZ).
#[unsafe(no_mangle)]
static SECONDS_PER_JIFFY_32: Global<u64> = Global::new(0);

/// The value of `jiffies_64` at zero of CLOCK_MONOTONIC.
#[unsafe(no_mangle)]
static JIFFIES_AT_ZERO: Global<u64> = Global::new(0);

/// Seconds of CLOCK_MONOTONIC.
#[inline(always)]
pub(crate) fn now() -> u32 {
    // SAFETY: the helper takes nothing and always succeeds.
    let jiffies = unsafe { bpf_jiffies64() }.wrapping_sub(JIFFIES_AT_ZERO.load());
    (jiffies.wrapping_mul(SECONDS_PER_JIFFY_32.load()) >> 32) as u32
}

/// What `svcproxy_clock` writes into its packet: both clocks at one moment, and what `bpf_fib_lookup` says to
/// [`FIB_LOOKUP_SRC`](fib::SRC) without an address family: `-EINVAL` when it does not know the flag.
#[repr(C)]
struct Sample {
    jiffies: Field<u64, 8>,
    nanoseconds: Field<u64, 8>,
    fib_source: Field<u64, 8>,
}

// SAFETY: `repr(C)` of three byte fields: alignment 1, no padding, any bits are valid.
unsafe impl Wire for Sample {}

/// Writes a [`Sample`] over the first bytes of the packet.
#[inline(always)]
pub(crate) fn sample(ctx: &XdpContext) -> u32 {
    let frame = Frame::new(ctx.data(), ctx.data_end());
    let Some(sample) = frame.at::<Sample>(0) else {
        return xdp_action::XDP_DROP;
    };
    // SAFETY: the helpers take nothing and always succeed.
    let (jiffies, nanoseconds) = unsafe { (bpf_jiffies64(), bpf_ktime_get_ns()) };
    sample.jiffies.set(jiffies);
    sample.nanoseconds.set(nanoseconds);
    // SAFETY: the context of the running program.
    sample.fib_source.set(unsafe { fib::try_source(ctx.as_ptr()) } as u64);
    xdp_action::XDP_PASS
}
